// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: find VMs by what /proc tells about file descriptors.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kcmp.h>

#include "internal.h"

static const char vm_file[] = "anon_inode:kvm-vm";
static const char vcpu_file[] = "anon_inode:kvm-vcpu:";

static bool is_number(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s);
}

/* Read a link or a file below /proc/PID: bytes, -1: cannot */
static ssize_t read_link(const char *proc, pid_t pid, const char *what, char *buf, size_t size)
{
	char path[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%d/%s", proc, pid, what);
	n = readlink(path, buf, size - 1);
	buf[n < 0 ? 0 : n] = '\0';
	return n;
}

static ssize_t read_file(const char *proc, pid_t pid, const char *what, char *buf, size_t size)
{
	char path[PATH_MAX];
	ssize_t n, got = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%d/%s", proc, pid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while ((n = read(fd, buf + got, size - 1 - got)) > 0)
		got += n;
	close(fd);
	buf[got] = '\0';
	return got;
}

static void copy(char *to, size_t size, const char *from, size_t len)
{
	if (len >= size)
		len = size - 1;
	memcpy(to, from, len);
	to[len] = '\0';
}

/* "guest=NAME,debug-threads=on", "NAME,process=P", "NAME" */
static void parse_name(struct kvmi_vm *vm, const char *arg)
{
	const char *guest = strstr(arg, ",guest=");

	if (strncmp(arg, "guest=", 6) == 0)
		arg += 6;
	else if (guest)
		arg = guest + 7;
	copy(vm->name, sizeof(vm->name), arg, strcspn(arg, ","));
}

/* "512", "2G", "size=2G,slots=4"; a number alone counts MiB */
static void parse_memory(struct kvmi_vm *vm, const char *arg)
{
	unsigned long long n;
	char *end;

	if (strncmp(arg, "size=", 5) == 0)
		arg += 5;
	if (!isdigit(*arg))
		return;
	n = strtoull(arg, &end, 10);
	switch (toupper(*end)) {
	case 'K':
		n <<= 10;
		break;
	case 'G':
		n <<= 30;
		break;
	case 'T':
		n <<= 40;
		break;
	default:
		n <<= 20;
		break;
	}
	vm->memory = n;
}

/* QEMU's options; kvmtool has --name too. */
static void parse_cmdline(struct kvmi_vm *vm, const char *cmdline, size_t len)
{
	const char *arg, *value, *end = cmdline + len;

	for (arg = cmdline; arg < end; arg = value) {
		value = arg + strlen(arg) + 1;
		if (value >= end)
			break;
		if (strcmp(arg, "-name") == 0 || strcmp(arg, "--name") == 0)
			parse_name(vm, value);
		else if (strcmp(arg, "-m") == 0)
			parse_memory(vm, value);
	}
}

static void describe(struct kvmi_vm *vm, const char *proc)
{
	char buf[32768];
	ssize_t n;

	n = read_link(proc, vm->pid, "exe", buf, sizeof(buf));
	if (n > 0) {
		const char *base = strrchr(buf, '/');

		base = base ? base + 1 : buf;
		copy(vm->vmm, sizeof(vm->vmm), base, strcspn(base, " "));
	} else if (read_file(proc, vm->pid, "comm", buf, sizeof(buf)) > 0) {
		copy(vm->vmm, sizeof(vm->vmm), buf, strcspn(buf, "\n"));
	}

	n = read_file(proc, vm->pid, "cmdline", buf, sizeof(buf));
	if (n > 0)
		parse_cmdline(vm, buf, n);
}

static int add(struct kvmi_vms *vms, pid_t pid, int fd)
{
	struct kvmi_vm *vm = realloc(vms->vm, (vms->nr + 1) * sizeof(*vm));

	if (!vm)
		return -ENOMEM;

	vms->vm = vm;
	vm += vms->nr++;
	memset(vm, 0, sizeof(*vm));
	vm->pid = pid;
	vm->fd = fd;

	return 0;
}

static int compare_vms(const void *a, const void *b)
{
	const struct kvmi_vm *x = a, *y = b;

	return x->pid != y->pid ? (x->pid > y->pid) - (x->pid < y->pid) :
				  (x->fd > y->fd) - (x->fd < y->fd);
}

static void sort_vms(struct kvmi_vms *vms, size_t first)
{
	if (vms->nr > first)
		qsort(vms->vm + first, vms->nr - first, sizeof(*vms->vm), compare_vms);
}

/* A VMM may have duplicates of a file descriptor. */
static bool same_file(pid_t pid, int a, int b)
{
	return syscall(SYS_kcmp, pid, pid, KCMP_FILE, a, b) == 0;
}

static void drop_duplicates(struct kvmi_vms *vms, size_t first)
{
	size_t i, j, nr = first;

	for (i = first; i < vms->nr; i++) {
		for (j = first; j < nr; j++)
			if (same_file(vms->vm[i].pid, vms->vm[j].fd, vms->vm[i].fd))
				break;
		if (j == nr)
			vms->vm[nr++] = vms->vm[i];
	}
	vms->nr = nr;
}

/*
 * Which vCPU belongs to which of several VMs is only seen in KVM's debugfs
 * directories, by those who may look there.
 */
static int count_vcpus(const struct kvmi_vm *vm)
{
	struct dirent *entry;
	char path[64];
	int nr = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d", vm->pid, vm->fd);
	dir = opendir(path);
	if (!dir)
		return -1;
	while ((entry = readdir(dir)))
		if (strncmp(entry->d_name, "vcpu", 4) == 0)
			nr++;
	closedir(dir);

	return nr;
}

/* Each vCPU once, for which its name is enough: ids are unique in a VM. */
struct vcpu_ids {
	unsigned long bits[65536 / (8 * sizeof(unsigned long))];
};

static void note_vcpu(struct vcpu_ids *ids, const char *id, int *nr)
{
	const size_t width = 8 * sizeof(unsigned long);
	unsigned long n = strtoul(id, NULL, 10);
	unsigned long bit = 1UL << n % width;

	if (n / width >= ARRAY_SIZE(ids->bits) || ids->bits[n / width] & bit)
		return;
	ids->bits[n / width] |= bit;
	(*nr)++;
}

static int scan_fds(struct kvmi_vms *vms, const char *proc, pid_t pid)
{
	struct vcpu_ids *ids = NULL;
	size_t i, first = vms->nr;
	struct dirent *entry;
	char path[PATH_MAX];
	int r = 0, nr_vcpus = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%d/fd", proc, pid);
	dir = opendir(path);
	if (!dir)
		return -errno;

	while (!r && (entry = readdir(dir))) {
		char link[64];
		ssize_t n;

		if (!is_number(entry->d_name))
			continue;
		n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = '\0';

		if (strcmp(link, vm_file) == 0) {
			r = add(vms, pid, atoi(entry->d_name));
		} else if (strncmp(link, vcpu_file, strlen(vcpu_file)) == 0) {
			if (!ids)
				ids = calloc(1, sizeof(*ids));
			if (ids)
				note_vcpu(ids, link + strlen(vcpu_file), &nr_vcpus);
		}
	}
	closedir(dir);
	free(ids);

	sort_vms(vms, first);
	drop_duplicates(vms, first);
	for (i = first; i < vms->nr; i++) {
		struct kvmi_vm *vm = &vms->vm[i];

		vm->several = vms->nr - first > 1;
		vm->vcpus = vm->several ? count_vcpus(vm) : nr_vcpus;
		describe(vm, proc);
	}

	return r;
}

/**
 * kvmi_list_vms - find the VMs on this host
 * @vms: out; kvmi_free_vms() frees it, whatever is returned
 * @proc: NULL, or what is used in place of /proc: without those that are served
 *
 * Return: 0 or a negative errno
 */
int kvmi_list_vms(struct kvmi_vms *vms, const char *proc)
{
	bool served = !proc;
	struct dirent *entry;
	int r = 0;
	DIR *dir;

	memset(vms, 0, sizeof(*vms));
	if (!proc)
		proc = "/proc";
	dir = opendir(proc);
	if (!dir)
		return -errno;

	while (r != -ENOMEM && (entry = readdir(dir))) {
		if (!is_number(entry->d_name))
			continue;
		r = scan_fds(vms, proc, atoi(entry->d_name));
		if (r == -EACCES || r == -EPERM)
			vms->unreadable++;
	}
	closedir(dir);
	if (r == -ENOMEM || (served && kvmi_add_served(vms)))
		return -ENOMEM;

	sort_vms(vms, 0);
	return 0;
}

/**
 * kvmi_free_vms - free a list of VMs
 * @vms: from kvmi_list_vms()
 */
void kvmi_free_vms(struct kvmi_vms *vms)
{
	free(vms->vm);
	memset(vms, 0, sizeof(*vms));
}

static int pick(struct kvmi_conn *conn, const struct kvmi_vms *vms, const char *which,
		const char *name, int fd, struct kvmi_vm *vm)
{
	const struct kvmi_vm *found = NULL;
	size_t i, nr = 0;

	for (i = 0; i < vms->nr; i++) {
		if ((fd >= 0 && vms->vm[i].fd != fd) || (name && strcmp(vms->vm[i].name, name)))
			continue;
		found = &vms->vm[i];
		nr++;
	}

	if (nr > 1)
		return kvmi_fail(conn, ENOTUNIQ, KVMI_FAILURE_AMBIGUOUS,
				 "%s: there are %zu VMs, say which one by PID:FD, for example %d:%d",
				 which, nr, found->pid, found->fd);
	if (!nr && name)
		return kvmi_fail(conn, ESRCH, KVMI_FAILURE_NO_VM, "no VM has the name %s", which);
	if (!nr && fd >= 0)
		return kvmi_fail(conn, ESRCH, KVMI_FAILURE_NO_VM, "there is no VM %s", which);
	if (!nr)
		return kvmi_fail(conn, ESRCH, KVMI_FAILURE_NO_VM, "process %s has no VM", which);

	*vm = *found;
	return 0;
}

static bool is_called(const struct kvmi_vm *vm, const char *which, long pid)
{
	char uuid[KVMI_UUID_TEXT];

	if (pid)
		return vm->pid == pid;
	return !strcmp(vm->name, which) || !strcasecmp(kvmi_uuid_text(vm->uuid, uuid), which);
}

/*
 * Among those that are served: that is the only way to them, somebody else who
 * attaches is refused. @pid is 0 if @which is not one. 1: found, 0: not, or a
 * negative errno
 */
static int find_served(struct kvmi_conn *conn, const char *which, long pid, struct kvmi_vm *vm)
{
	struct kvmi_vms vms = { 0 };
	size_t i, nr = 0;
	int r;

	r = kvmi_add_served(&vms);
	for (i = 0; !r && i < vms.nr; i++) {
		if (!is_called(&vms.vm[i], which, pid))
			continue;
		*vm = vms.vm[i];
		nr++;
	}
	kvmi_free_vms(&vms);

	if (r)
		return kvmi_fail(conn, -r, KVMI_FAILURE_OTHER, "cannot look for VMs: %s",
				 strerror(-r));
	if (nr > 1)
		return kvmi_fail(conn, ENOTUNIQ, KVMI_FAILURE_AMBIGUOUS,
				 "%s: %zu VMs that are served are called so: 'kvmi list' shows their UUIDs and PIDs",
				 which, nr);
	return nr;
}

/**
 * kvmi_find_vm - find a VM by what a user calls it
 * @conn: for kvmi_strerror()
 * @which: PID, PID:FD if the process has several, or the VM's name; the UUID, too,
 *	   if the VM is served
 * @vm: out
 *
 * Return: 0 or a negative errno
 */
int kvmi_find_vm(struct kvmi_conn *conn, const char *which, struct kvmi_vm *vm)
{
	struct kvmi_vms vms = { 0 };
	bool by_pid = isdigit(*which);
	int r, fd = -1;
	long pid = 0;
	char *end;

	if (by_pid) {
		errno = 0;
		pid = strtol(which, &end, 10);
		if (*end == ':' && is_number(end + 1))
			fd = strtol(end + 1, &end, 10);
		by_pid = !*end;
		if (by_pid && (errno || pid < 1 || pid > INT_MAX))
			return kvmi_fail(conn, ESRCH, KVMI_FAILURE_NO_VM, "no process %s", which);
	}

	if (fd < 0) {
		r = find_served(conn, which, by_pid ? pid : 0, vm);
		if (r)
			return r < 0 ? r : 0;
	}

	r = by_pid ? scan_fds(&vms, "/proc", pid) : kvmi_list_vms(&vms, NULL);
	if (r == -EACCES || r == -EPERM)
		r = kvmi_fail(conn, -r, KVMI_FAILURE_PERMISSION,
			      "no permission to look into process %ld: be its owner, or root", pid);
	else if (r == -ENOENT)
		r = kvmi_fail(conn, ESRCH, KVMI_FAILURE_NO_VM, "no process %ld", pid);
	else if (r)
		r = kvmi_fail(conn, -r, KVMI_FAILURE_OTHER, "cannot look for VMs: %s",
			      strerror(-r));
	else
		r = pick(conn, &vms, which, by_pid ? NULL : which, fd, vm);
	kvmi_free_vms(&vms);

	return r;
}
