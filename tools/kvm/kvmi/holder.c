// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: who holds a paused VM.
 *
 * 'kvmi pause' keeps a file for the VM, locked for as long as it lives, with its
 * process id. 'kvmi resume' ends that process. A file that is not locked is
 * left over from one that was killed, and means nothing: the VM went on then.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/served.h"
#include "tool.h"

/* Root's is for all to see; false: there is no place for it. */
static bool record_path(const struct tool *tool, char *path, size_t size, bool create)
{
	const struct kvmi_vm *vm = &tool->vm;
	char uuid[KVMI_UUID_TEXT];
	size_t len;

	if (!(vm->pid || *vm->served) || !kvmi_run_dir(path, size, create))
		return false;

	len = strlen(path);
	if (vm->pid)
		snprintf(path + len, size - len, "/%d-%d", vm->pid, vm->fd);
	else
		snprintf(path + len, size - len, "/%s", kvmi_uuid_text(vm->uuid, uuid));
	return true;
}

static bool is_at(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Make the record and lock it; -1: there cannot be one */
int holder_record(const struct tool *tool)
{
	char path[PATH_MAX];
	int fd;

	if (!record_path(tool, path, sizeof(path), true))
		return -1;

	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			close(fd);
			return -1;
		}
		/* The one before may have removed it between open() and flock(). */
		if (is_at(fd, path))
			return fd;
		close(fd);
	}
}

/* @pid is the one that holds the VM. */
void holder_write(int record, pid_t pid)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", pid);

	if (record >= 0 && (ftruncate(record, 0) || pwrite(record, text, n, 0) != n))
		note("cannot write the record for 'kvmi resume': %s", strerror(errno));
}

void holder_forget(const struct tool *tool, int record)
{
	char path[PATH_MAX];

	if (record >= 0 && record_path(tool, path, sizeof(path), false))
		unlink(path);
}

static pid_t read_pid(int fd)
{
	char text[16];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return atoi(text);
}

/* The process that holds the VM, 0: none. Its lock on @record (may be NULL) ends with it. */
pid_t holder_find(const struct tool *tool, int *record)
{
	char path[PATH_MAX];
	pid_t pid = 0;
	int i, fd;

	if (!record_path(tool, path, sizeof(path), false))
		return 0;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return 0;

	/* It writes its id right after it got the lock. */
	for (i = 0; i < 100 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK; i++) {
		pid = read_pid(fd);
		if (pid > 0)
			break;
		usleep(10000);
	}
	if (pid > 0 && record)
		*record = fd;
	else
		close(fd);

	return pid > 0 ? pid : 0;
}
