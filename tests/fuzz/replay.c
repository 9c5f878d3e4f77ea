/*
 * Runs a fuzz target over a corpus without libFuzzer: `frame_replay [FILE|DIRECTORY…]`, by default the corpus in
 * the source tree. The name of the file in work is printed before a target that aborts brings the program down.
 */
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUT_MAX (1 << 20)

static char current[4096];

static void on_abort(int sig)
{
	static const char text[] = "replay: aborted by ";
	if (write(2, text, sizeof text - 1) < 0 || write(2, current, strlen(current)) < 0 || write(2, "\n", 1) < 0)
		_exit(2);
	signal(sig, SIG_DFL);
	raise(sig);
}

static int run_file(const char *path)
{
	static uint8_t bytes[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		exit(2);
	}
	size_t n = fread(bytes, 1, sizeof bytes, f);
	fclose(f);
	snprintf(current, sizeof current, "%s", path);
	/* An allocation of its own, so that a read past the input is seen. */
	uint8_t *exact = malloc(n ? n : 1);
	memcpy(exact, bytes, n);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	return 1;
}

static int run(const char *path)
{
	int count = 0;
	DIR *dir = opendir(path);
	if (!dir)
		return run_file(path);
	for (struct dirent *e; (e = readdir(dir));) {
		char name[4096];
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		count += run_file(name);
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir");
	char corpus[4096];
	int count = 0;

	signal(SIGABRT, on_abort);
	signal(SIGSEGV, on_abort);
	for (int i = 1; i < argc; i++)
		count += run(argv[i]);
	if (argc == 1) {
		snprintf(corpus, sizeof corpus, "%s/" CORPUS, srcdir ? srcdir : ".");
		count = run(corpus);
	}
	printf("%d inputs replayed\n", count);
	return count ? EXIT_SUCCESS : EXIT_FAILURE;
}
