// SPDX-License-Identifier: GPL-2.0
/*
 * The init, and all else, of the Linux guest with a workload that bench measures: for
 * each line of its console, a name, it starts processes and uses files, several times
 * over, and tells in ticks of the time stamp counter how long it took.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <x86intrin.h>

#define SAMPLES		15
#define PROCESSES	50
#define FILES		20
#define FILE_SIZE	65536

#define CHECK(condition)							\
	do {									\
		if (!(condition)) {						\
			printf("not ok # line %d: %s\n", __LINE__, #condition);	\
			exit(1);						\
		}								\
	} while (0)

static void use_processes(void)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < PROCESSES; i++) {
		pid = fork();
		if (!pid) {
			execl("/init", "true", NULL);
			_exit(1);
		}
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && !status);
	}
}

static void use_files(void)
{
	static char data[FILE_SIZE];
	char name[20];
	int i, fd;

	for (i = 0; i < FILES; i++) {
		sprintf(name, "/tmp/%d", i);
		memset(data, i, sizeof(data));
		fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
		CHECK(fd >= 0 && write(fd, data, sizeof(data)) == sizeof(data));
		memset(data, 0xff, sizeof(data));
		CHECK(pread(fd, data, sizeof(data), 0) == sizeof(data));
		CHECK(data[0] == i && data[FILE_SIZE - 1] == i);
		close(fd);
	}
	for (i = 0; i < FILES; i++) {
		sprintf(name, "/tmp/%d", i);
		CHECK(!unlink(name));
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void measure(const char *name)
{
	uint64_t ticks[SAMPLES];
	int i;

	/* Once to warm up. */
	for (i = -1; i < SAMPLES; i++) {
		uint64_t start = __rdtsc();

		use_processes();
		use_files();
		if (i >= 0)
			ticks[i] = __rdtsc() - start;
	}
	qsort(ticks, SAMPLES, sizeof(*ticks), compare);
	printf("# bench %s %lu %lu %lu of %d\n", name, (unsigned long)ticks[0],
	       (unsigned long)ticks[SAMPLES / 2], (unsigned long)ticks[SAMPLES - 1], SAMPLES);
}

int main(int argc, char **argv)
{
	struct termios tty;
	char line[100];

	if (!strcmp(argv[0], "true"))
		return 0;

	setlinebuf(stdout);
	CHECK(!tcgetattr(0, &tty));
	cfmakeraw(&tty);
	CHECK(!tcsetattr(0, TCSANOW, &tty));
	mkdir("/tmp", 0700);
	CHECK(!mount("tmpfs", "/tmp", "tmpfs", 0, NULL));

	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\r\n")] = 0;
		measure(line);
	}
	CHECK(!"the end of the console");
}
