// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Wakes up every PERIOD ns with the highest priority, and tells by how many ns it was late at most. Starts when a line
 * can be read from standard input, and ends at its end.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = 99 };
	struct pollfd in = { .fd = 0 };
	long long period, next, late, worst = 0;

	if (argc != 2 || (period = atoll(argv[1])) < 1000)
		return 2;
	if (mlockall(MCL_CURRENT | MCL_FUTURE) || sched_setscheduler(0, SCHED_FIFO, &param)) {
		perror("gapmon");
		return 1;
	}
	next = now() + period;
	for (;;) {
		struct timespec t = { next / 1000000000LL, next % 1000000000LL };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		late = now() - next;
		if (late > worst)
			worst = late;
		next += period * (late / period + 1);
		if (poll(&in, 1, 0) == 1 && (in.revents & (POLLHUP | POLLERR)))
			break;
	}
	printf("%lld\n", worst);
	return 0;
}
