// SPDX-License-Identifier: GPL-2.0
/*
 * Tests: finding VMs, in a /proc of our own making.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

static char proc[32];

static void make_process(int pid, const char *exe, const char *cmdline, size_t len)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%d", proc, pid);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%d/fd", proc, pid);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%d/exe", proc, pid);
	if (exe && symlink(exe, path))
		exit(2);
	snprintf(path, sizeof(path), "%s/%d/comm", proc, pid);
	file = fopen(path, "w");
	fputs("short-name\n", file);
	fclose(file);
	snprintf(path, sizeof(path), "%s/%d/cmdline", proc, pid);
	file = fopen(path, "w");
	fwrite(cmdline, 1, len, file);
	fclose(file);
}

#define add_process(pid, exe, cmdline) make_process(pid, exe, cmdline, sizeof(cmdline))

static void add_fd(int pid, int fd, const char *target)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%d/fd/%d", proc, pid, fd);
	if (symlink(target, path))
		exit(2);
}

void test_vms(void)
{
	char command[64];
	struct kvmi_vms vms;

	snprintf(proc, sizeof(proc), "/tmp/kvmi-test-XXXXXX");
	if (!mkdtemp(proc))
		exit(2);

	/* The pids are beyond those of real processes. */
	add_process(20000001, "/usr/bin/qemu-system-x86_64",
		    "qemu-system-x86_64\0-name\0guest=web,debug-threads=on\0"
		    "-m\0size=2G,slots=2\0-smp\0002");
	add_fd(20000001, 0, "/dev/null");
	add_fd(20000001, 9, "/dev/kvm");
	add_fd(20000001, 11, "anon_inode:kvm-vm");
	add_fd(20000001, 12, "anon_inode:kvm-vcpu:0");
	add_fd(20000001, 13, "anon_inode:kvm-vcpu:1");
	add_fd(20000001, 14, "anon_inode:kvm-vcpu:1");
	add_fd(20000001, 15, "anon_inode:kvm-vcpu-stats:0");
	add_process(20000002, "/opt/two (deleted)", "two");
	add_fd(20000002, 20, "anon_inode:kvm-vm");
	add_fd(20000002, 5, "anon_inode:kvm-vm");
	add_fd(20000002, 6, "anon_inode:kvm-vcpu:0");
	add_process(20000003, "/bin/sh", "sh\0-name\0no-vm");
	add_fd(20000003, 1, "pipe:[1234]");
	add_process(20000004, NULL, "x\0-name\0plain\0-m\000512\0-name");
	add_fd(20000004, 3, "anon_inode:kvm-vm");

	is_number(kvmi_list_vms(&vms, proc), 0, "list VMs");
	if (is_number(vms.nr, 4, "four VMs") && vms.nr == 4) {
		is_number(vms.vm[0].pid, 20000001, "in the order of processes");
		is_number(vms.vm[0].fd, 11, "its file descriptor");
		is_number(vms.vm[0].vcpus, 2, "each vCPU counts once");
		is_string(vms.vm[0].vmm, "qemu-system-x86_64", "the VMM");
		is_string(vms.vm[0].name, "web", "the name");
		is_number(vms.vm[0].memory, 2LL << 30, "the memory");
		ok(!vms.vm[0].several, "one VM in the process");
		is_number(vms.vm[1].fd, 5, "the first of two");
		is_number(vms.vm[2].fd, 20, "the second of two");
		ok(vms.vm[1].several && vms.vm[2].several, "two VMs in a process");
		is_number(vms.vm[1].vcpus, -1, "whose vCPUs they are is not known");
		is_string(vms.vm[1].vmm, "two", "the VMM's file was replaced");
		is_string(vms.vm[3].vmm, "short-name", "the VMM's file is not known");
		is_string(vms.vm[3].name, "plain", "a name without 'guest='");
		is_number(vms.vm[3].memory, 512 << 20, "memory in MiB");
		is_number(vms.vm[3].vcpus, 0, "a VM without vCPUs");
	}
	kvmi_free_vms(&vms);
	ok(kvmi_list_vms(&vms, "/nonexistent") < 0, "no /proc");

	snprintf(command, sizeof(command), "rm -rf %s", proc);
	if (system(command))
		exit(2);
}
