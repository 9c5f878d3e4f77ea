/*
 * Runs cases in blocks, a process for each, several at once; prints a line per case. See subject.c for what a process
 * does.
 *
 *   differential list                                    names of all cases
 *   differential peer CONTROL V4 V6 SUBJECT-V4 SUBJECT-V6  serve subjects
 *   differential run CONTROL OWN-V4 OWN-V6 PEER-V4 PEER-V6 HOLE-V4 HOLE-V6 WORKERS STAT-DIRECTORY FINESSE
 *       names of cases come from standard input; lines NAME TAB CARRIER TAB RESULT go to standard output. FINESSE, if
 *       not "", is the command that is asked for the statistics of each process before it ends: STAT-DIRECTORY/PID.json
 */
#include "differential.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANGS_MS    5000 /* a case, though its calls are interrupted */
#define BLOCK	    48	 /* cases of one process */
#define WORKERS_MAX 32
#define POLL_US	    3000

/* What a worker's processes share with the first one. */
struct worker {
	volatile unsigned next, end; /* of chosen; the process works on `next` */
	volatile bool finished;	     /* all done: waits to be let go */
	volatile bool let_go;
	pid_t pid;   /* 0: none */
	pid_t stat;  /* that asks for statistics */
	unsigned seen;
	int64_t since_ms; /* when `seen` was first seen */
};

static struct test_case *cases;
static unsigned *chosen, n_chosen, next_block;
static struct result *results;
static struct worker *workers;
static const char *control_path, *stat_directory, *finesse;

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		exit(98);
	}
	return p;
}

/* What is started at the first use (an engine, for one) is no part of the first case's time. */
static void warm_up(int control)
{
	static struct result unused;
	static const char *const names[2] = {"conn", "acc"};
	for (unsigned i = 0; i < 2 * n_states; i++) {
		struct test_case c = {.state = &states[i % n_states], .first = call_at(0), .nonblocking = true};
		if (strcmp(c.state->name, names[i / n_states]) == 0)
			run_case(&c, &unused, control);
	}
}

_Noreturn static void be_subject(struct worker *w)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	subject_prepare();
	int control = control_to(control_path);
	warm_up(control);
	while (w->next < w->end) {
		run_case(&cases[chosen[w->next]], &results[w->next], control);
		w->next++;
	}
	w->finished = true;
	while (!w->let_go)
		usleep(POLL_US);
	kill(getpid(), SIGKILL); /* the end of a program is not what is tested here */
	_exit(0);
}

static void start(struct worker *w)
{
	w->finished = w->let_go = false;
	w->seen = -1;
	w->stat = 0;
	pid_t child = fork();
	if (child == 0)
		be_subject(w);
	if (child < 0) {
		perror("fork");
		exit(98);
	}
	w->pid = child;
}

static void ask_statistics(struct worker *w)
{
	pid_t child = fork(); /* `w` is shared: the child must not write it */
	if (child != 0) {
		w->stat = child;
		return;
	}
	char path[4096], pid[16];
	snprintf(pid, sizeof pid, "%d", (int)w->pid);
	snprintf(path, sizeof path, "%s/%s.json", stat_directory, pid);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	dup2(fd, STDOUT_FILENO);
	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO); /* a block may have had no use for an engine */
	unsetenv("LD_PRELOAD");
	execl(finesse, finesse, "stat", pid, "--json", NULL);
	_exit(127);
}

/* A process ended with its case, or was ended. */
static void died(struct worker *w, int status)
{
	struct result *r = &results[w->next];
	w->pid = 0;
	if (w->next >= w->end)
		return;
	if (!r->done) {
		size_t n = strlen(r->text);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			snprintf(r->text + n, TEXT_MAX - n, " | HANGS");
		else if (WIFSIGNALED(status))
			snprintf(r->text + n, TEXT_MAX - n, " | DIES: SIG%s", sigabbrev_np(WTERMSIG(status)));
		else
			snprintf(r->text + n, TEXT_MAX - n, " | DIES: status %d", WEXITSTATUS(status));
		r->done = true;
	}
	w->next++;
}

/* True: it has something to do. */
static bool tend(struct worker *w)
{
	int status;
	if (w->pid > 0 && waitpid(w->pid, &status, WNOHANG) == w->pid)
		died(w, status);
	if (w->pid > 0 && w->finished && !w->let_go) {
		if (*finesse && w->stat == 0)
			ask_statistics(w);
		else if (!*finesse || waitpid(w->stat, &status, WNOHANG) == w->stat)
			w->let_go = true;
	}
	if (w->pid > 0 && !w->finished) {
		if (w->seen != w->next) {
			w->seen = w->next;
			w->since_ms = now_ms();
		} else if (now_ms() - w->since_ms > HANGS_MS) {
			kill(w->pid, SIGKILL);
		}
	}
	if (w->pid == 0 && w->next >= w->end && next_block < n_chosen) {
		w->next = next_block;
		w->end = next_block + BLOCK < n_chosen ? next_block + BLOCK : n_chosen;
		next_block = w->end;
	}
	if (w->pid == 0 && w->next < w->end)
		start(w);
	return w->pid != 0;
}

static void run_all(unsigned n_workers)
{
	bool busy = true;
	workers = shared(n_workers * sizeof *workers);
	while (busy) {
		busy = false;
		for (unsigned i = 0; i < n_workers; i++)
			busy |= tend(&workers[i]);
		usleep(POLL_US);
	}
}

static int by_name(const void *a, const void *b, void *names)
{
	char(*n)[NAME_MAX_] = names;
	return strcmp(n[*(const unsigned *)a], n[*(const unsigned *)b]);
}

/* The cases whose names are asked for. */
static void choose(unsigned n_cases)
{
	char line[NAME_MAX_ + 2], (*names)[NAME_MAX_] = malloc((size_t)n_cases * NAME_MAX_);
	unsigned *sorted = malloc(n_cases * sizeof *sorted), room = 1024;
	chosen = malloc(room * sizeof *chosen);
	for (unsigned i = 0; i < n_cases; i++) {
		case_name(&cases[i], names[i]);
		sorted[i] = i;
	}
	qsort_r(sorted, n_cases, sizeof *sorted, by_name, names);
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		unsigned low = 0, high = n_cases;
		while (low < high) {
			unsigned middle = (low + high) / 2;
			if (strcmp(names[sorted[middle]], line) < 0)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == n_cases || strcmp(names[sorted[low]], line) != 0) {
			fprintf(stderr, "no case is named %s\n", line);
			exit(2);
		}
		if (n_chosen == room)
			chosen = realloc(chosen, (room *= 2) * sizeof *chosen);
		chosen[n_chosen++] = sorted[low];
	}
	free(names);
	free(sorted);
}

int main(int argc, char **argv)
{
	unsigned n_cases;
	char name[NAME_MAX_];
	if (argc == 7 && strcmp(argv[1], "peer") == 0)
		return peer_main(argv[2], argv[3], argv[4], argv[5], argv[6]);
	cases = cases_make(&n_cases);
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (unsigned i = 0; i < n_cases; i++) {
			case_name(&cases[i], name);
			puts(name);
		}
		return 0;
	}
	if (argc != 12 || strcmp(argv[1], "run") != 0) {
		fprintf(stderr, "usage: see the source\n");
		return 2;
	}
	control_path = argv[2];
	own_v4 = argv[3], own_v6 = argv[4], peer_v4 = argv[5], peer_v6 = argv[6], hole_v4 = argv[7], hole_v6 = argv[8];
	stat_directory = argv[10], finesse = argv[11];
	unsigned n_workers = atoi(argv[9]);
	choose(n_cases);
	results = shared((n_chosen + 1) * sizeof *results);
	run_all(n_workers < 1 ? 1 : n_workers > WORKERS_MAX ? WORKERS_MAX : n_workers);
	for (unsigned i = 0; i < n_chosen; i++) {
		case_name(&cases[chosen[i]], name);
		printf("%s\t%c\t%s\n", name, results[i].carrier ? results[i].carrier : '-', results[i].text);
	}
	return 0;
}
