/*
 * Becomes what a container's first process is by default: Docker's capabilities, and a seccomp filter that refuses what
 * Docker's profile refuses.
 *
 *     container PROGRAM [ARGUMENT…]        run as root in the container's namespaces; ends as PROGRAM does
 *
 * A kernel may want CAP_NET_ADMIN for a classic filter on a TCP socket, which Linux's own sources do not. There the
 * calls that attach and remove one are handed to this process (SECCOMP_RET_USER_NOTIF), which has the capability and
 * makes them on the caller's socket: the program meets the kernel that it would meet elsewhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif

#define CAP(c) (1ull << (c))
/*
 * Docker's default set: chown, dac_override, fsetid, fowner, mknod, net_raw, setgid, setuid, setfcap, setpcap,
 * net_bind_service, sys_chroot, kill, audit_write.
 */
static const uint64_t kept = CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FSETID) | CAP(CAP_FOWNER) | CAP(CAP_MKNOD) | CAP(CAP_NET_RAW) | CAP(CAP_SETGID) |
			     CAP(CAP_SETUID) | CAP(CAP_SETFCAP) | CAP(CAP_SETPCAP) | CAP(CAP_NET_BIND_SERVICE) | CAP(CAP_SYS_CHROOT) | CAP(CAP_KILL) | CAP(CAP_AUDIT_WRITE);

/* What Docker's profile lets nobody call who has no more than these. */
static const uint16_t refused[] = {
	SYS_acct, SYS_add_key, SYS_bpf, SYS_clock_adjtime, SYS_clock_settime, SYS_delete_module, SYS_fanotify_init, SYS_finit_module, SYS_fsconfig, SYS_fsmount, SYS_fsopen,
	SYS_fspick, SYS_get_mempolicy, SYS_init_module, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_kcmp, SYS_kexec_load, SYS_keyctl, SYS_mbind,
	SYS_mount, SYS_mount_setattr, SYS_move_mount, SYS_move_pages, SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open, SYS_pidfd_getfd, SYS_pivot_root,
	SYS_process_madvise, SYS_quotactl, SYS_reboot, SYS_request_key, SYS_set_mempolicy, SYS_setdomainname, SYS_sethostname, SYS_setns, SYS_settimeofday, SYS_swapoff,
	SYS_swapon, SYS_syslog, SYS_umount2, SYS_unshare, SYS_userfaultfd, SYS_vhangup,
};
#define REFUSED (sizeof refused / sizeof *refused)

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static void drop(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(kept & CAP(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			die("PR_CAPBSET_DROP");
	for (int i = 0; i < 2; i++)
		d[i] = (struct __user_cap_data_struct){.effective = kept >> 32 * i, .permitted = kept >> 32 * i};
	if (syscall(SYS_capset, &h, d))
		die("capset");
}

static int attach_nothing(void)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	struct sock_fprog prog = {.len = 1, .filter = &all};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

/* Does this kernel refuse a classic filter on a TCP socket to who has Docker's capabilities? */
static int wants_privilege(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		drop();
		_exit(attach_nothing() != 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		die("fork");
	return status != 0;
}

/* ---- the filter ---- */

static struct sock_filter code[REFUSED + 32];
static unsigned n_code;

static void put(uint16_t op, uint8_t jt, uint8_t jf, uint32_t k)
{
	code[n_code++] = (struct sock_filter){op, jt, jf, k};
}

static void load(size_t offset)
{
	put(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
}

#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n)) /* its low half, on a little-endian machine */
#define NAMESPACES  (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

static void write_filter(int hand_over)
{
	load(offsetof(struct seccomp_data, arch));
	put(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, THIS_ARCH);
	put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM);
	load(offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < REFUSED; i++)
		put(BPF_JMP | BPF_JEQ | BPF_K, REFUSED - i, 0, refused[i]);
	put(BPF_JMP | BPF_JA, 0, 0, 1);
	put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM);
	put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_clone3); /* libc takes clone then, whose flags a filter can read */
	put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS);
	put(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, SYS_clone);
	load(ARGUMENT(0));
	put(BPF_JMP | BPF_JSET | BPF_K, 0, 6, NAMESPACES);
	put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM);
	put(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, hand_over ? SYS_setsockopt : UINT32_MAX);
	load(ARGUMENT(2));
	put(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SO_ATTACH_FILTER);
	put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SO_DETACH_FILTER);
	put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_USER_NOTIF);
	put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
}

static int install(int hand_over)
{
	struct sock_fprog prog = {.filter = code};
	write_filter(hand_over);
	prog.len = n_code;
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, hand_over ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0, &prog);
	if (fd < 0)
		die("seccomp");
	return fd;
}

/* ---- what is handed over ---- */

static void send_fd(int to, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof fd)] = "";
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (sendmsg(to, &m, 0) != 1)
		die("sendmsg");
}

static int receive_fd(int from)
{
	int fd = -1;
	char byte, control[CMSG_SPACE(sizeof fd)];
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static pid_t process_of(pid_t thread)
{
	char path[64], line[128];
	int pid = 0;
	snprintf(path, sizeof path, "/proc/%d/status", thread);
	FILE *f = fopen(path, "re");
	while (f && !pid && fgets(line, sizeof line, f))
		if (sscanf(line, "Tgid: %d", &pid) != 1)
			pid = 0;
	if (f)
		fclose(f);
	return pid;
}

static int read_program(pid_t pid, uint64_t at, struct sock_fprog *out, struct sock_filter *filter, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	if (fd < 0 || pread(fd, out, sizeof *out, (off_t)at) != sizeof *out || out->len * sizeof *filter > size ||
	    pread(fd, filter, out->len * sizeof *filter, (off_t)(uintptr_t)out->filter) != (ssize_t)(out->len * sizeof *filter))
		err = -EFAULT;
	if (fd >= 0)
		close(fd);
	out->filter = filter;
	return err;
}

static int make_call(const struct seccomp_notif *n)
{
	static struct sock_filter filter[BPF_MAXINSNS];
	struct sock_fprog prog = {0};
	pid_t pid = process_of(n->pid);
	int option = (int)n->data.args[2], unused = 0;
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)n->data.args[0], 0);
	int err = fd < 0 ? -errno : option == SO_DETACH_FILTER ? 0 : read_program(pid, n->data.args[3], &prog, filter, sizeof filter);
	if (!err && setsockopt(fd, SOL_SOCKET, option, option == SO_DETACH_FILTER ? (void *)&unused : (void *)&prog, option == SO_DETACH_FILTER ? sizeof unused : sizeof prog))
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (pidfd >= 0)
		close(pidfd);
	return err;
}

static void answer(int listener)
{
	struct seccomp_notif n = {0};
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n))
		return;
	struct seccomp_notif_resp r = {.id = n.id};
	if ((int)n.data.args[1] == SOL_SOCKET)
		r.error = make_call(&n);
	else
		r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

/* Until all are gone who have the filter, or the first one is. */
static int supervise(int listener, pid_t child)
{
	int pidfd = syscall(SYS_pidfd_open, child, 0), status;
	for (;;) {
		struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (p[1].revents & POLLIN)
			answer(listener);
		else if (p[0].revents)
			break;
	}
	if (waitpid(child, &status, 0) < 0)
		die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	int pair[2], hand_over = wants_privilege();
	if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("usage: container PROGRAM [ARGUMENT...]");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		int listener = install(hand_over);
		if (hand_over)
			send_fd(pair[1], listener);
		drop();
		execvp(argv[1], argv + 1);
		die(argv[1]);
	}
	close(pair[1]);
	return supervise(hand_over ? receive_fd(pair[0]) : -1, child);
}
