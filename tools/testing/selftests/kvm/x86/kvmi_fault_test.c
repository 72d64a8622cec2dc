// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection without memory: each allocation that is made for it, and each
 * copy from or to user memory, fails once. That is a clean error, or the end of the
 * connection if it was for a message; the guest goes on, the same works when it is
 * repeated, and nothing is leaked.
 *
 * The kernel's fault injection makes the N-th call of a thread fail, of those of a
 * kind that have some part of the kernel's code on the stack.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "cgroup_util.h"
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

#define TIMES		1000000		/* faults, more than there will be */
#define LOST		ECONNRESET	/* the connection */
#define GPA		0x1000		/* nobody uses this page */

/* A large memory that is not used: so many pages for each entry. */
#define SPARSE_GPA	0x100000000ull
#define SPARSE_PAGES	64
#define SPARSE_ENTRIES	511

static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

enum { SLAB, PAGES, COPIES, NR_KINDS };

/* From the first function with such a name to the last one with another. */
static struct code {
	const char *first;
	const char *last;
	u64 start;
	u64 end;
} codes[] = {
	/* What calls the rest of introspection, as far as that allocates. */
	{ "kvmi_", "kvmi_vcpu_" },
	{ "kvm_vm_ioctl", "kvm_vm_ioctl" },
	{ "kvm_set_gfn_access", "kvm_clear_gfn_access" },
	{ "", "" },
	/* These are spared: one tells of it with a backtrace, one does without. */
	{ "__vmalloc_node_range_noprof", "vmalloc_huge_node_noprof" },
	{ "__alloc_object", "__create_object" },
};

enum { INTROSPECTION, VM_IOCTLS, SET_ACCESS, EVERYTHING, VMALLOC, KMEMLEAK };

static u64 *injected_in_all;		/* shared by all processes */

/* What suffers. */
struct target {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct kvmi_tool *tool;
	struct kvmi_runner runner;
	struct kvmi_page page;
	struct kvmi_ev event;	/* that the vCPU waits for the reply to */
	int nr_vcpus;
};

/* Threads: this one, the one that makes all others of the kernel, and ours. */
enum thread { SELF, KTHREADD, RECEIVER, VCPU };

/* What is done, again and again. @run returns an errno, which may be LOST. */
struct operation {
	const char *name;
	int id;
	enum thread who;	/* whose calls fail */
	int code;		/* that it makes them for */
	void (*prepare)(struct target *t, int id);	/* each new connection */
	int (*run)(struct target *t, int id);
	/* How often this comes of it. */
	u64 no_memory;		/* at least, or never */
	u64 fault;		/* EFAULT, or ENOENT for guest memory */
	u64 lost;		/* at least, or never */
};

static bool put(u64 value, const char *fmt, ...)
{
	char path[100], text[24];
	va_list args;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	snprintf(text, sizeof(text), "%lu", (unsigned long)value);

	return write_text(path, text, strlen(text)) > 0;
}

static void set(int kind, const char *knob, u64 value)
{
	TEST_ASSERT(put(value, "/sys/kernel/debug/%s/%s", kinds[kind], knob),
		    "No %s of %s", knob, kinds[kind]);
}

static u64 count_injected(int kind)
{
	char path[100], times[24];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/times", kinds[kind]);
	TEST_ASSERT(read_text(path, times, sizeof(times)) > 0, "No %s", path);

	return TIMES - atoi(times);
}

static void find_codes(void)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	char name[512], type;
	unsigned long addr;
	struct code *code;

	TEST_ASSERT(f, "No symbols");
	while (fscanf(f, "%lx %c %511s%*[^\n]", &addr, &type, name) == 3) {
		if ((type != 't' && type != 'T') || strchr(name, '.'))
			continue;
		for (code = codes; code < codes + ARRAY_SIZE(codes); code++) {
			if (!strncmp(name, code->first, strlen(code->first)) &&
			    (!code->start || addr < code->start))
				code->start = addr;
			if (!strncmp(name, code->last, strlen(code->last)) && addr > code->end)
				code->end = addr;
		}
	}
	fclose(f);
}

static void prepare_faults(void)
{
	int kind;

	find_codes();
	for (kind = 0; kind < NR_KINDS; kind++) {
		set(kind, "stacktrace-depth", 32);
		set(kind, "verbose", 0);
		set(kind, "times", TIMES);
		if (kind != COPIES)
			set(kind, "ignore-gfp-wait", 0);
	}
	set(PAGES, "min-order", 0);
}

/* This is what can fail from now on, and no call of another kind. */
static void aim(int kind, int code)
{
	bool ours = kind == SLAB && code == INTROSPECTION;
	const struct code *spared = &codes[ours ? KMEMLEAK : VMALLOC];
	int i;

	for (i = 0; i < NR_KINDS; i++) {
		set(i, "require-start", i == kind ? codes[code].start : 0);
		set(i, "require-end", i == kind ? codes[code].end : 0);
		set(i, "reject-start", spared->start);
		set(i, "reject-end", spared->end);
	}
}

/* The receiver of this VM: the youngest one, others may be about to end. */
static pid_t find_receiver(void)
{
	char path[300], name[40], comm[40];
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t tid = 0;

	snprintf(name, sizeof(name), "kvmi-%d\n", getpid());
	while ((entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (atoi(entry->d_name) > tid && read_text(path, comm, sizeof(comm)) > 0 &&
		    !strcmp(comm, name))
			tid = atoi(entry->d_name);
	}
	closedir(proc);
	TEST_ASSERT(tid, "No receiver");

	return tid;
}

static pid_t find_thread(struct target *t, enum thread who)
{
	switch (who) {
	case SELF:
		return gettid();
	case KTHREADD:
		return 2;
	case RECEIVER:
		return find_receiver();
	default:
		return t->runner.tid;
	}
}

/* Returns false if nothing was left to fail. */
static bool fail_call(struct target *t, const struct operation *op, int kind, u64 nth,
		      u64 *errors)
{
	pid_t tid = find_thread(t, op->who);
	u64 faults = count_injected(kind);
	int err;

	TEST_ASSERT(put(nth, "/proc/%d/fail-nth", tid), "No thread %d", tid);
	err = op->run(t, op->id);
	put(0, "/proc/%d/fail-nth", tid);	/* it may have ended */
	faults = count_injected(kind) - faults;

	TEST_ASSERT(!err || (faults && (err == ENOMEM || err == EFAULT || err == ENOENT ||
					err == LOST)),
		    "%s %d, %s %lu: errno %d, %lu faults", op->name, op->id, kinds[kind],
		    (unsigned long)nth, err, (unsigned long)faults);
	errors[err]++;
	if (err == LOST) {
		kvmi_expect_closed(t->tool);
		t->tool = kvmi_rehook(t->tool);
		if (op->prepare)
			op->prepare(t, op->id);
	}
	TEST_ASSERT_EQ(op->run(t, op->id), 0);
	*injected_in_all += faults;

	return faults;
}

static void fail_each_call(struct target *t, const struct operation *op)
{
	u64 nth, faults = *injected_in_all, errors[LOST + 1] = {};
	int kind;

	if (op->prepare)
		op->prepare(t, op->id);
	for (kind = 0; kind < NR_KINDS; kind++) {
		aim(kind, op->code);
		for (nth = 1; fail_call(t, op, kind, nth, errors); nth++)
			;
	}
	faults = *injected_in_all - faults;

	ksft_print_msg("%s %d: %lu faults, %lu ENOMEM, %lu EFAULT, %lu ENOENT, %lu lost\n",
		       op->name, op->id, (unsigned long)faults, (unsigned long)errors[ENOMEM],
		       (unsigned long)errors[EFAULT], (unsigned long)errors[ENOENT],
		       (unsigned long)errors[LOST]);
	TEST_ASSERT(errors[ENOMEM] >= op->no_memory && !errors[ENOMEM] == !op->no_memory &&
		    errors[LOST] >= op->lost && !errors[LOST] == !op->lost &&
		    errors[EFAULT] + errors[ENOENT] == op->fault, "Other errors than expected");
}

FIXTURE(kvmi_fault) {
	struct target t;
};

FIXTURE_SETUP(kvmi_fault)
{
	struct target *t = &self->t;

	t->vm = vm_create_with_one_vcpu(&t->vcpu, NULL);
	t->nr_vcpus = 1;
	kvmi_page_alloc(t->vm, &t->page);
	t->tool = kvmi_hook(t->vm);
	kvmi_start_agent(&t->runner, t->vcpu);
}

FIXTURE_TEARDOWN(kvmi_fault)
{
	kvmi_stop(&self->t.runner);
	kvmi_free(self->t.tool);
	kvm_vm_free(self->t.vm);
}

static int run_hook(struct target *t, int attach)
{
	unsigned long cmd = attach ? KVM_INTROSPECTION_ATTACH : KVM_INTROSPECTION_HOOK;
	int fds[2], err;

	kvmi_unhook(t->vm);
	kvmi_free(t->tool);
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
	err = kvmi_hook_errno(t->vm, cmd, fds[0], 0);
	close(fds[0]);
	t->tool = kvmi_adopt(t->vm, fds[1]);
	if (err)
		kvmi_expect_closed(t->tool);	/* nobody has kept the socket */
	else
		kvmi_check_version(t->tool);

	return err;
}

static int run_ioctl(struct target *t, int nr)
{
	static const struct {
		unsigned long cmd;
		u32 arg[2];
	} ioctls[] = {
		{ KVM_INTROSPECTION_COMMAND, { 1, -1 } },
		{ KVM_INTROSPECTION_EVENT, { 1, -1 } },
		{ KVM_INTROSPECTION_DEADLINE, { 100000, 0 } },
	};

	return ioctl(t->vm->fd, ioctls[nr].cmd, ioctls[nr].arg) ? errno : 0;
}

static void prepare_preunhook(struct target *t, int id)
{
	TEST_ASSERT_EQ(kvmi_control_vm_event(t->tool, KVMI_VM_EVENT_UNHOOK, 1), 0);
}

static int run_preunhook(struct target *t, int id)
{
	int err = kvmi_preunhook_errno(t->vm);
	struct kvmi_ev ev;

	if (err == ENOENT)
		return LOST;
	TEST_ASSERT(!err && kvmi_next_event(t->tool, &ev), "No event, errno %d", err);

	return 0;
}

/* Wherever it fails: the id can be used again, and it is under introspection. */
static int run_create_vcpu(struct target *t, int id)
{
	int fd = __vm_ioctl(t->vm, KVM_CREATE_VCPU, (void *)(long)t->nr_vcpus);
	int err = fd < 0 ? errno : 0;

	/* Nobody has sent it INIT. */
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(t->tool, KVMI_VCPU_GET_INFO, t->nr_vcpus, NULL, 0, NULL, 0),
		       err ? -KVM_EINVAL : -KVM_EAGAIN);
	if (!err)
		t->nr_vcpus++;
	close(fd);

	return err;
}

/* The connection, its buffer, its thread, its vCPU; what a thread or a vCPU needs. */
static const struct operation ioctls[] = {
	{ "command", 0, SELF, .run = run_ioctl, .fault = 1 },
	{ "event", 1, SELF, .run = run_ioctl, .fault = 1 },
	{ "deadline", 2, SELF, .run = run_ioctl, .fault = 1 },
	{ "preunhook", 0, SELF, .prepare = prepare_preunhook, .run = run_preunhook, .lost = 2 },
	{ "hook", 0, SELF, .run = run_hook, .no_memory = 4, .fault = 1 },
	{ "hook's thread", 0, KTHREADD, EVERYTHING, .run = run_hook, .no_memory = 4 },
	{ "attach", 1, SELF, .run = run_hook, .no_memory = 4, .fault = 1 },
	{ "attach's thread", 1, KTHREADD, EVERYTHING, .run = run_hook, .no_memory = 4 },
	{ "create vCPU", 0, SELF, VM_IOCTLS, .run = run_create_vcpu, .no_memory = 4 },
};

TEST_F(kvmi_fault, ioctls)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(ioctls); i++)
		fail_each_call(&self->t, &ioctls[i]);
}

/* What is in requests, so that they succeed. The rest is 0, or surplus. */
static const struct {
	bool allocates;
	bool copies;		/* from or to guest memory */
	u64 words[2];
} requests[] = {
	[KVMI_VM_CHECK_COMMAND] = { .words = { KVMI_GET_VERSION } },
	[KVMI_VM_READ_PHYSICAL] = { true, true, { GPA, 4096 } },
	[KVMI_VM_WRITE_PHYSICAL] = { false, true, { GPA, 4096 } },
	[KVMI_VM_SET_PAGE_ACCESS] = { true, .words = { 1, GPA } },
	[KVMI_VCPU_CONTROL_EVENTS] = { .words = { KVMI_VCPU_EVENT_PF } },
	[KVMI_VCPU_GET_REGISTERS] = { true },
	[KVMI_VCPU_INJECT_EXCEPTION] = { .words = { UD_VECTOR } },
	[KVMI_VCPU_GET_XSAVE] = { true },
	[KVMI_VCPU_SET_XSAVE] = { true },
	[KVMI_VCPU_CONTROL_MSR] = { true, .words = { 1 | (u64)MSR_LSTAR << 32 } },
	[KVMI_VCPU_CONTROL_SINGLESTEP] = { .words = { 1 } },
	[KVMI_VCPU_TRANSLATE_GVA] = {},
};

/* Returns the error in a reply, as an errno, or LOST. */
static int recv_error(struct kvmi_tool *tool, int id)
{
	struct {
		struct kvmi_error_code ec;
		u8 data[KVMI_MSG_SIZE];
	} reply;
	struct kvmi_msg_hdr hdr;

	if (!kvmi_recv(tool, &hdr, &reply, sizeof(reply)))
		return LOST;
	TEST_ASSERT(hdr.id == id, "Message %u instead of a reply to %d", hdr.id, id);

	return -reply.ec.err;
}

static int run_command(struct target *t, int id)
{
	u8 req[sizeof(struct kvmi_vm_write_physical) + 4096] = {};

	if (id == KVMI_VCPU_SET_REGISTERS)
		memcpy(req, &t->event.common.arch.regs, sizeof(struct kvm_regs));
	else
		memcpy(req, requests[id].words, sizeof(requests[id].words));
	if (id & 1)
		kvmi_send_vcpu(t->tool, id, 0, req, sizeof(req));
	else
		kvmi_send(t->tool, id, req, sizeof(req));

	return recv_error(t->tool, id);
}

/* The vCPU waits for the reply to an event, and reads the socket. */
static void prepare_waiting(struct target *t, int id)
{
	TEST_ASSERT_EQ(kvmi_pause(t->tool, 0, 0), 0);
	kvmi_expect_event(t->tool, 0, KVMI_VCPU_EVENT_PAUSE, &t->event);
	kvmi_check_version(t->tool);
}

/* The guest goes on. */
static void end_waiting(struct target *t)
{
	TEST_ASSERT_EQ(kvmi_control_singlestep(t->tool, 0, 0), 0);
	kvmi_reply(t->tool, &t->event, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_call(t->vcpu, kvmi_guest_store, t->page.gva, 0);
}

/* In a vCPU's thread that waits, or runs: then it does not read the socket. */
static void fail_commands(struct target *t, enum thread who, bool waiting)
{
	struct operation op = {
		.name = "command",
		.who = who,
		.prepare = waiting ? prepare_waiting : NULL,
		.run = run_command,
	};
	bool is_vcpu, queued;

	for (op.id = KVMI_GET_VERSION; op.id < ARRAY_SIZE(requests); op.id++) {
		is_vcpu = op.id & 1;
		/* There is none; those that bring about events come later. */
		if ((op.id > KVMI_VM_SET_PAGE_ACCESS && !is_vcpu) ||
		    op.id == KVMI_VM_PAUSE_VCPU || op.id == KVMI_VCPU_INJECT_EXCEPTION ||
		    op.id == KVMI_VCPU_CONTROL_SINGLESTEP)
			continue;
		if (!waiting && ((who == VCPU && !is_vcpu) || op.id == KVMI_VCPU_SET_REGISTERS))
			continue;

		queued = who == RECEIVER && is_vcpu;
		op.no_memory = queued || requests[op.id].allocates;
		op.lost = !queued;
		op.fault = requests[op.id].copies;
		fail_each_call(t, &op);
		if (waiting)
			end_waiting(t);
	}
}

TEST_F(kvmi_fault, commands_in_receiver)
{
	fail_commands(&self->t, RECEIVER, false);
}

TEST_F(kvmi_fault, commands_in_running_vcpu)
{
	fail_commands(&self->t, VCPU, false);
}

TEST_F(kvmi_fault, commands_in_waiting_vcpu)
{
	fail_commands(&self->t, VCPU, true);
}

/* A socket that has room for less than two replies. */
static void prepare_narrow(struct target *t, int id)
{
	int fds[2], room = 0;

	kvmi_unhook(t->vm);
	kvmi_free(t->tool);
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds) &&
		    !setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), "Sockets");
	TEST_ASSERT_EQ(kvmi_hook_errno(t->vm, KVM_INTROSPECTION_ATTACH, fds[0], 0), 0);
	close(fds[0]);
	t->tool = kvmi_adopt(t->vm, fds[1]);
}

/* What there is no room for is kept, in memory, and written later. */
static int run_backlog(struct target *t, int id)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_read_physical req;
	} cmds[4];
	int i, err = 0;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		memset(&cmds[i], 0, sizeof(cmds[i]));
		cmds[i].hdr.id = id;
		cmds[i].hdr.size = sizeof(cmds[i].req);
		cmds[i].req.gpa = t->page.gpa;
		cmds[i].req.size = 4096;
	}
	kvmi_write(t->tool, cmds, sizeof(cmds));
	usleep(5000);
	for (i = 0; i < ARRAY_SIZE(cmds) && err != LOST; i++)
		err = recv_error(t->tool, id) ?: err;

	return err;
}

TEST_F(kvmi_fault, backlog)
{
	/* More than the two allocations that the first reply needs. */
	const struct operation op = {
		"backlog of", KVMI_VM_READ_PHYSICAL, RECEIVER, .prepare = prepare_narrow,
		.run = run_backlog, .no_memory = 1, .fault = 4, .lost = 3,
	};

	fail_each_call(&self->t, &op);
}

/* What the guest does: returns 0 if it took place. */
static u64 guest_ask(u64 a0, u64 a1)
{
	return kvmi_guest_hypercall();
}

static u64 guest_write_cr4(u64 a0, u64 a1)
{
	u64 before = get_cr4();

	set_cr4(before ^ X86_CR4_TSD);
	return (get_cr4() ^ before) != X86_CR4_TSD;
}

static u64 guest_sgdt(u64 a0, u64 a1)
{
	return !get_gdt().address;
}

static u64 guest_write_msr(u64 a0, u64 a1)
{
	u64 value = rdmsr(MSR_LSTAR) ^ 0x1000;

	wrmsr(MSR_LSTAR, value);
	return rdmsr(MSR_LSTAR) != value;
}

static const struct {
	u16 event;
	kvmi_guest_fn fn;	/* that the guest does for it, or */
	u16 command;		/* that the tool gives */
} causes[] = {
	{ KVMI_VCPU_EVENT_HYPERCALL, guest_ask },
	{ KVMI_VCPU_EVENT_CR, guest_write_cr4 },
	{ KVMI_VCPU_EVENT_DESCRIPTOR, guest_sgdt },
	{ KVMI_VCPU_EVENT_MSR, guest_write_msr },
	{ KVMI_VCPU_EVENT_PF, kvmi_guest_store },
	{ KVMI_VCPU_EVENT_PF, kvmi_guest_strange_store },
	{ KVMI_VCPU_EVENT_PAUSE, .command = KVMI_VM_PAUSE_VCPU },
	{ KVMI_VCPU_EVENT_TRAP, .command = KVMI_VCPU_INJECT_EXCEPTION },
	{ KVMI_VCPU_EVENT_SINGLESTEP, .command = KVMI_VCPU_CONTROL_SINGLESTEP },
};

static void prepare_event(struct target *t, int nr)
{
	TEST_ASSERT_EQ(kvmi_control_event(t->tool, 0, causes[nr].event, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(t->tool, 0, 4, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(t->tool, 0, MSR_LSTAR, 1), 0);
	kvmi_restrict(t->tool, &t->page, KVMI_PAGE_ACCESS_R);
}

/* If the tool cannot be told, it is as if it had nothing against it. */
static int run_event(struct target *t, int nr)
{
	struct kvmi_ev ev;
	bool sent;

	*t->page.value = 1;
	kvmi_call_begin(t->vcpu, causes[nr].fn, t->page.gva + KVMI_PAGE_OFFSET, 0);
	sent = kvmi_next_event(t->tool, &ev);
	if (sent) {
		TEST_ASSERT_EQ(ev.event.event, causes[nr].event);
		kvmi_let_pass(t->tool, &ev);
	}
	TEST_ASSERT_EQ(kvmi_call_end(t->vcpu), 0);
	TEST_ASSERT_EQ(*t->page.value, causes[nr].event != KVMI_VCPU_EVENT_PF);

	return sent ? 0 : LOST;
}

/* The vCPU waits; the tool has it raise the next event, and it waits again. */
static int run_requested(struct target *t, int nr)
{
	int err = run_command(t, causes[nr].command);

	if (err)
		return err;
	kvmi_reply(t->tool, &t->event, KVMI_EVENT_ACTION_CONTINUE);
	if (!kvmi_next_event(t->tool, &t->event))
		return LOST;
	TEST_ASSERT_EQ(t->event.event.event, causes[nr].event);

	return 0;
}

static void guest_ud_handler(struct ex_regs *regs)
{
}

TEST_F(kvmi_fault, events)
{
	struct operation op = { .name = "cause", .who = VCPU };
	struct target *t = &self->t;

	vm_install_exception_handler(t->vm, UD_VECTOR, guest_ud_handler);
	for (op.id = 0; op.id < ARRAY_SIZE(causes); op.id++) {
		op.prepare = causes[op.id].fn ? prepare_event : prepare_waiting;
		op.run = causes[op.id].fn ? run_event : run_requested;
		/* The reply to the command needs memory too. */
		op.lost = causes[op.id].fn ? 2 : 4;
		fail_each_call(t, &op);
		if (!causes[op.id].fn)
			end_waiting(t);
	}
}

/* All allocations fail, after that many bytes. */
static void start_failing(u64 bytes)
{
	set(SLAB, "space", bytes);
	set(SLAB, "probability", 100);
}

/* Introspection can always be ended. */
TEST_F(kvmi_fault, unhook)
{
	struct target *t = &self->t;

	kvmi_restrict(t->tool, &t->page, 0);
	aim(SLAB, INTROSPECTION);
	start_failing(0);
	kvmi_unhook(t->vm);
	TEST_ASSERT_EQ(kvmi_hook_errno(t->vm, KVM_INTROSPECTION_HOOK, t->tool->fd, 0), ENOMEM);
	set(SLAB, "probability", 0);
	TEST_ASSERT_EQ(kvmi_call(t->vcpu, kvmi_guest_store, t->page.gva, 0), 0);
}

static int set_sparse(struct kvmi_tool *tool, u8 access)
{
	struct kvmi_page_access_entry entries[SPARSE_ENTRIES] = {};
	int i;

	for (i = 0; i < SPARSE_ENTRIES; i++) {
		entries[i].gpa = SPARSE_GPA + (u64)i * SPARSE_PAGES * 4096;
		entries[i].access = access;
	}

	return kvmi_set_page_accesses(tool, entries, SPARSE_ENTRIES);
}

/* What cannot be remembered is an error, and lifting a restriction never is. */
TEST_F(kvmi_fault, sparse_page_access)
{
	u8 all = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X;
	u64 bytes = 1, faults, errors = 0;
	int err;

	vm_userspace_mem_region_add(self->t.vm, VM_MEM_SRC_ANONYMOUS, SPARSE_GPA, 10,
				    SPARSE_ENTRIES * SPARSE_PAGES, 0);
	aim(SLAB, SET_ACCESS);
	do {
		faults = count_injected(SLAB);
		start_failing(bytes);
		err = set_sparse(self->t.tool, KVMI_PAGE_ACCESS_R);
		faults = count_injected(SLAB) - faults;
		TEST_ASSERT_EQ(err, faults ? -KVM_ENOMEM : 0);
		TEST_ASSERT_EQ(set_sparse(self->t.tool, all), 0);
		set(SLAB, "probability", 0);
		TEST_ASSERT_EQ(set_sparse(self->t.tool, KVMI_PAGE_ACCESS_R), 0);
		TEST_ASSERT_EQ(set_sparse(self->t.tool, all), 0);

		*injected_in_all += faults;
		errors += !!err;
		bytes += 600 + bytes;
	} while (err);
	ksft_print_msg("sparse page access: %lu errors\n", (unsigned long)errors);
	TEST_ASSERT(errors, "It needs no memory");
}

/* After all the others. */
TEST_F(kvmi_fault, nothing_is_leaked)
{
	int i, fd = open("/sys/kernel/debug/kmemleak", O_RDWR);
	static char leaks[4096];

	ksft_print_msg("%lu faults in all\n", (unsigned long)*injected_in_all);
	if (fd < 0)
		SKIP(return, "The kernel has no kmemleak");

	/* It does not look at what is younger than 5 seconds. */
	usleep(6000000);
	for (i = 0; i < 2; i++)
		TEST_ASSERT(write(fd, "scan", 4) == 4, "Cannot scan");
	TEST_ASSERT(!read(fd, leaks, sizeof(leaks) - 1), "Leaked:\n%s", leaks);
	close(fd);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();
	__TEST_REQUIRE(!access("/sys/kernel/debug/failslab/require-start", W_OK) &&
		       !access("/proc/thread-self/fail-nth", W_OK),
		       "The kernel has no fault injection");
	prepare_faults();
	injected_in_all = mmap(NULL, sizeof(*injected_in_all), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(injected_in_all != MAP_FAILED, "mmap");

	return test_harness_run(argc, argv);
}
