// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: whom memory is charged to, with VMM and tool in memory cgroups of
 * their own. What the tool has KVM keep for it is the VMM's, and is given back when the
 * connection ends; the connection itself is charged to whoever makes it.
 */
#include <fcntl.h>
#include <linux/limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cgroup_util.h"
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

/* A large memory that is not used, and a restricted page in each 2 MiB of it. */
#define SPARSE_GPA	0x100000000ull
#define SPARSE_SLOT	10
#define BLOCK_SIZE	0x200000ull
#define BLOCKS		8192
#define BLOCK_BYTES	256	/* kept for each, at least */
#define ENTRIES		511

#define COMMANDS	256
#define CONNECTIONS	128
#define CONNECTION_BYTES 8192	/* at least, the receive buffer */

/* What else may come and go meanwhile, and what charges are rounded to. */
#define NOISE		(256 * 1024)

/* The kernel sums up statistics every two seconds, unless there is much to add. */
#define FLUSH_US	2500000

static long charged(const char *cgroup)
{
	long bytes;

	usleep(FLUSH_US);
	bytes = cg_read_key_long(cgroup, "memory.stat", "kernel ");
	TEST_ASSERT(bytes >= 0, "No statistics of %s", cgroup);

	return bytes;
}

struct parties {
	char root[PATH_MAX];
	char *vmm;	/* cgroups */
	char *tool;
	pid_t pid;	/* of the VMM */
	struct kvmi_tool *kvmi;
	long vmm_was, tool_was;
};

FIXTURE(kvmi_memcg) {
	struct parties p;
};

static char *new_cgroup(const char *root, const char *name)
{
	char *cgroup = cg_name_indexed(root, name, getpid());

	TEST_ASSERT(cgroup && !cg_create(cgroup), "Cannot create the cgroup %s", name);
	return cgroup;
}

FIXTURE_SETUP(kvmi_memcg) {
	if (cg_find_unified_root(self->p.root, sizeof(self->p.root), NULL) ||
	    cg_read_strstr(self->p.root, "cgroup.controllers", "memory"))
		SKIP(return, "no memory cgroups");
	if (cg_read_strstr(self->p.root, "cgroup.subtree_control", "memory"))
		TEST_ASSERT(!cg_write(self->p.root, "cgroup.subtree_control", "+memory"),
			    "Cannot use memory cgroups");
	self->p.vmm = new_cgroup(self->p.root, "kvmi_vmm");
	self->p.tool = new_cgroup(self->p.root, "kvmi_tool");
}

static void end_vmm(pid_t *pid)
{
	if (!*pid)
		return;
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

FIXTURE_TEARDOWN(kvmi_memcg) {
	end_vmm(&self->p.pid);
	if (self->p.kvmi)
		kvmi_free(self->p.kvmi);
	if (!self->p.tool)
		return;
	TEST_ASSERT(!cg_enter_current(self->p.root), "Cannot leave the cgroup");
	TEST_ASSERT(!cg_destroy(self->p.vmm) && !cg_destroy(self->p.tool), "A cgroup is in use");
}

static void guest_loop(void)
{
	for (;;)
		;
}

/* Its vCPU never runs. */
static void run_vmm(const char *cgroup, int fd)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	TEST_ASSERT(!cg_enter_current(cgroup), "Cannot enter the VMM's cgroup");
	vm = vm_create_with_one_vcpu(&vcpu, guest_loop);
	hva = mmap(NULL, BLOCKS * BLOCK_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "mmap: %s", strerror(errno));
	vm_set_user_memory_region(vm, SPARSE_SLOT, 0, SPARSE_GPA, BLOCKS * BLOCK_SIZE, hva);
	TEST_ASSERT_EQ(kvmi_hook_errno(vm, KVM_INTROSPECTION_HOOK, fd, 0), 0);
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_COMMAND, -1, 1), 0);
	close(fd);
	/* For good: there is nothing else to do. */
	raise(SIGSTOP);
	exit(1);
}

static void hook_vmm(struct parties *p)
{
	int fds[2], status;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair: %s",
		    strerror(errno));
	p->pid = fork();
	if (!p->pid) {
		close(fds[1]);
		run_vmm(p->vmm, fds[0]);
	}
	close(fds[0]);
	TEST_ASSERT(waitpid(p->pid, &status, WUNTRACED) == p->pid && WIFSTOPPED(status),
		    "The VMM has failed");
	TEST_ASSERT(!cg_enter_current(p->tool), "Cannot enter the tool's cgroup");
	p->kvmi = kvmi_adopt(NULL, fds[1]);
}

static void remember(struct parties *p)
{
	p->tool_was = charged(p->tool);
	p->vmm_was = charged(p->vmm);
}

/* So much more is charged to @payer, and nothing to @other. */
static void expect_charged(const char *payer, long was, const char *other, long other_was,
			   long least)
{
	long more = charged(payer) - was, other_more = charged(other) - other_was;

	TEST_ASSERT(more >= least, "%ld bytes, %ld at least should be charged to %s", more, least,
		    payer);
	TEST_ASSERT(other_more < NOISE, "%ld bytes are charged to %s", other_more, other);
	ksft_print_msg("%ld bytes are charged to %s, %ld to %s\n", more, payer, other_more, other);
}

/* The end of the connection gives everything back. */
static void expect_given_back(struct parties *p)
{
	long more;
	int i;

	kvmi_close(p->kvmi);
	for (i = 0; i < 10; i++) {
		more = charged(p->vmm) - p->vmm_was;
		if (more < NOISE)
			return;
	}
	TEST_FAIL("%ld bytes stay charged to the VMM", more);
}

TEST_F(kvmi_memcg, restricted_pages)
{
	struct kvmi_page_access_entry entries[ENTRIES] = {};
	int block, nr = 0;

	hook_vmm(&self->p);
	remember(&self->p);
	for (block = 0; block < BLOCKS; block++) {
		entries[nr].gpa = SPARSE_GPA + block * BLOCK_SIZE;
		entries[nr++].access = KVMI_PAGE_ACCESS_R;
		if (nr < ENTRIES && block < BLOCKS - 1)
			continue;
		TEST_ASSERT_EQ(kvmi_set_page_accesses(self->p.kvmi, entries, nr), 0);
		nr = 0;
	}
	expect_charged(self->p.vmm, self->p.vmm_was, self->p.tool, self->p.tool_was,
		       BLOCKS * BLOCK_BYTES);
	expect_given_back(&self->p);
}

TEST_F(kvmi_memcg, queued_commands)
{
	static struct kvm_xsave xsave;
	int i;

	hook_vmm(&self->p);
	remember(&self->p);
	for (i = 0; i < COMMANDS; i++)
		kvmi_send_vcpu(self->p.kvmi, KVMI_VCPU_SET_XSAVE, 0, &xsave, sizeof(xsave));
	/* KVM has read all of it. */
	kvmi_check_version(self->p.kvmi);
	expect_charged(self->p.vmm, self->p.vmm_was, self->p.tool, self->p.tool_was,
		       COMMANDS * sizeof(xsave));
	expect_given_back(&self->p);
}

/* The tool attaches, to VMs of its parent. */
static void attach_to_all(struct parties *p, const int *vms)
{
	struct kvm_vm vm = {};
	int i, fds[CONNECTIONS][2];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	TEST_ASSERT(!cg_enter_current(p->tool), "Cannot enter the tool's cgroup");
	for (i = 0; i < CONNECTIONS; i++)
		TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), "socketpair: %s",
			    strerror(errno));
	remember(p);
	for (i = 0; i < CONNECTIONS; i++) {
		vm.fd = vms[i];
		TEST_ASSERT_EQ(kvmi_hook_errno(&vm, KVM_INTROSPECTION_ATTACH, fds[i][0], 0), 0);
	}
	expect_charged(p->tool, p->tool_was, p->vmm, p->vmm_was,
		       CONNECTIONS * CONNECTION_BYTES);
	exit(0);
}

TEST_F(kvmi_memcg, connection)
{
	int i, kvm, status, vms[CONNECTIONS];
	pid_t pid;

	TEST_ASSERT(!cg_enter_current(self->p.vmm), "Cannot enter the VMM's cgroup");
	kvm = open_kvm_dev_path_or_exit();
	for (i = 0; i < CONNECTIONS; i++) {
		vms[i] = ioctl(kvm, KVM_CREATE_VM, 0);
		TEST_ASSERT(vms[i] >= 0, "KVM_CREATE_VM: %s", strerror(errno));
	}
	close(kvm);

	pid = fork();
	if (!pid)
		attach_to_all(&self->p, vms);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status, "The tool has failed");
	for (i = 0; i < CONNECTIONS; i++)
		close(vms[i]);
}

int main(int argc, char **argv)
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
