// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM introspection costs, in ticks of the time stamp counter. On an emulator
 * that counts instructions with it, these numbers are exact.
 *
 * kvmi_bench [-r ROUNDS] [GLOB...]: the cases that match, or all, with so many
 * rounds, or enough of them. Those without introspection run on any kernel, the
 * others need KVM_CAP_INTROSPECTION.
 *
 * A case that crosses the socket has a floor: two threads that exchange messages of
 * the same sizes over a socketpair, and do nothing else.
 */
#include <fnmatch.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kselftest.h"
#include "kvmi_util.h"
#include "test_util.h"
#include "ucall_common.h"

/* Samples in a round, at most; rounds go on until their common median is stable. */
#define ROUND		256
#define MAX_ROUNDS	64
/* It is when it has moved by less than a thousandth so often. */
#define STABLE_ROUNDS	3
#define MIN_SAMPLES	16

/* What is restricted while the guest uses it, */
#define PAGES		511
#define PAGES_SLOT	10
#define PAGES_GPA	0x40000000ull
#define PAGES_GVA	PAGES_GPA

/* and while it does not. */
#define OTHER_PAGES	200000
#define OTHER_GPA	0x100000000ull
#define OTHER_SLOT	11

#define MAX_VCPUS	64

#define EVENT_SIZE(payload)	(sizeof(struct kvmi_msg_hdr) + KVMI_EVENT_SIZE + (payload))
#define ANSWER_SIZE(data)	(sizeof(struct kvmi_msg_hdr) + sizeof(struct kvmi_vcpu_hdr) + \
				 sizeof(struct kvmi_vcpu_event_reply) + (data))
#define COMMAND_SIZE(req)	(sizeof(struct kvmi_msg_hdr) + (req))
#define REPLY_SIZE(data)	(sizeof(struct kvmi_msg_hdr) + sizeof(struct kvmi_error_code) + \
				 (data))
#define ACCESS_SIZE(nr)		COMMAND_SIZE(sizeof(struct kvmi_vm_set_page_access) + \
					     (nr) * sizeof(struct kvmi_page_access_entry))

struct samples {
	u64 ticks[MAX_ROUNDS * ROUND];
	size_t nr;
	u64 min, median, max;
	int stable;
};

struct bench;

/* What a case works with. */
struct env {
	const struct bench *bench;
	struct samples *samples;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct kvmi_tool *tool;
	pthread_t thread;
	u8 *hva;

	/* Commands to the vCPU, whose replies come once it runs. */
	struct {
		u16 id;
		u32 seq;
	} sent[16];
	int nr_sent;

	/* Others, that are halted. */
	struct kvmi_runner runners[MAX_VCPUS];
	int nr_runners;
};

struct bench {
	const char *name;
	void (*run)(struct env *env);
	bool kvmi;		/* needs introspection */
	void (*guest)(void);
	u16 event;		/* that the guest raises */
	u8 cr;			/* and what it writes to: a control register, */
	u32 msr;		/* an MSR */
	int vcpus;		/* in the VM, if not one */
	int restricted;		/* pages that are restricted before */
	u16 legs[4];		/* of a floor: sizes of messages, to and fro */
};

static inline u64 ticks(void)
{
	u32 eax, edx;

	asm volatile("rdtsc" : "=a"(eax), "=d"(edx) : : "memory");
	return (u64)edx << 32 | eax;
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* How many there are to be in any case. */
static size_t rounds;

/* Returns true if more are needed. */
static bool add_samples(struct samples *s, const u64 *round, size_t nr)
{
	u64 last = s->median;

	memcpy(s->ticks + s->nr, round, nr * sizeof(*round));
	s->nr += nr;
	qsort(s->ticks, s->nr, sizeof(*s->ticks), compare);
	s->min = s->ticks[0];
	s->median = s->ticks[s->nr / 2];
	s->max = s->ticks[s->nr - 1];

	s->stable = llabs((s64)(s->median - last)) * 1000 <= last ? s->stable + 1 : 0;

	if (s->nr + nr > ARRAY_SIZE(s->ticks))
		return false;

	if (rounds)
		return s->nr < rounds * nr;

	return s->stable < STABLE_ROUNDS || s->nr < MIN_SAMPLES;
}

/* The guest. */

static u64 guest_samples[ROUND];
static u64 guest_value;

static __always_inline void guest_measure(void (*op)(u64 i))
{
	u64 i, start;

	for (;;) {
		for (i = 0; i < ROUND; i++) {
			start = ticks();
			op(i);
			guest_samples[i] = ticks() - start;
		}
		GUEST_SYNC(0);
	}
}

static __always_inline void op_cpuid(u64 i)
{
	u32 eax = 0, ecx = 0;

	asm volatile("cpuid" : "+a"(eax), "+c"(ecx) : : "ebx", "edx", "memory");
}

/* Neither the guest's own bit, nor one that has KVM build other page tables. */
static __always_inline void op_cr4(u64 i)
{
	guest_value ^= X86_CR4_MCE;
	set_cr4(guest_value);
}

static __always_inline void op_cr3(u64 i)
{
	/* PWT */
	guest_value ^= BIT(3);
	set_cr3(guest_value);
}

static __always_inline void op_msr(u64 i)
{
	guest_value ^= 0x1000;
	wrmsr(MSR_LSTAR, guest_value);
}

static __always_inline void op_hypercall(u64 i)
{
	kvmi_guest_hypercall();
}

static __always_inline void op_store(u64 i)
{
	WRITE_ONCE(*(u64 *)PAGES_GVA, i);
}

static __always_inline void op_store_each(u64 i)
{
	WRITE_ONCE(*(u64 *)(PAGES_GVA + i * PAGE_SIZE), i);
}

static void guest_cpuid(void)
{
	guest_measure(op_cpuid);
}

static void guest_cr4(void)
{
	guest_value = get_cr4();
	guest_measure(op_cr4);
}

static void guest_cr3(void)
{
	guest_value = get_cr3();
	guest_measure(op_cr3);
}

static void guest_msr(void)
{
	guest_measure(op_msr);
}

static void guest_hypercall(void)
{
	guest_measure(op_hypercall);
}

static void guest_store(void)
{
	guest_measure(op_store);
}

static void guest_touch(void)
{
	guest_measure(op_store_each);
}

/* The tool gets everything ready for the next round at the hypercall. */
static void guest_lift(void)
{
	u64 i, start;

	for (;;) {
		kvmi_guest_hypercall();
		for (i = 0; i < ROUND; i++) {
			start = ticks();
			op_store_each(i);
			guest_samples[i] = ticks() - start;
		}
		GUEST_SYNC(0);
	}
}

/* Have all pages mapped, writable. */
static void guest_map(void)
{
	u64 i;

	for (;;) {
		for (i = 0; i < PAGES; i++)
			op_store_each(i);
		GUEST_SYNC(0);
	}
}

static void guest_halt(void)
{
	for (;;)
		asm volatile("hlt");
}

/* The VM. */

static void run_guest(struct env *env)
{
	struct ucall uc;

	vcpu_run(env->vcpu);
	if (get_ucall(env->vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
}

static void create_vm(struct env *env)
{
	int i, vcpus = max(env->bench->vcpus, 1);
	struct kvm_vcpu *vcpu[MAX_VCPUS];

	env->vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, vcpus, 0, env->bench->guest, vcpu);
	env->vcpu = vcpu[0];
	vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS, PAGES_GPA, PAGES_SLOT, PAGES,
				    0);
	virt_map(env->vm, PAGES_GVA, PAGES_GPA, PAGES);
	env->hva = addr_gpa2hva(env->vm, PAGES_GPA);
	memset(env->hva, 0, PAGES * PAGE_SIZE);

	for (i = 1; i < vcpus; i++) {
		vcpu_arch_set_entry_point(vcpu[i], guest_halt);
		kvmi_start(&env->runners[env->nr_runners++], vcpu[i]);
	}
	/* Until they are halted. */
	if (env->nr_runners)
		usleep(100000);

	if (env->bench->restricted)
		vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS, OTHER_GPA,
					    OTHER_SLOT, OTHER_PAGES, 0);
}

static void free_vm(struct env *env)
{
	while (env->nr_runners)
		kvmi_stop(&env->runners[--env->nr_runners]);
	if (env->tool)
		kvmi_free(env->tool);
	kvm_vm_free(env->vm);
}

static void set_accesses(struct kvmi_tool *tool, gpa_t gpa, int nr, u8 access)
{
	struct kvmi_page_access_entry entries[PAGES] = {};
	int i, n;

	for (; nr; nr -= n, gpa += n * PAGE_SIZE) {
		n = min(nr, PAGES);
		for (i = 0; i < n; i++) {
			entries[i].gpa = gpa + i * PAGE_SIZE;
			entries[i].access = access;
		}
		TEST_ASSERT_EQ(kvmi_set_page_accesses(tool, entries, n), 0);
	}
}

#define ACCESS_ALL	(KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X)
#define ACCESS_READ	KVMI_PAGE_ACCESS_R

static void hook_vm(struct env *env)
{
	env->tool = kvmi_hook(env->vm);
	set_accesses(env->tool, OTHER_GPA, env->bench->restricted, ACCESS_READ);
}

static void send_vcpu(struct env *env, u16 id, const void *req, size_t len)
{
	TEST_ASSERT(env->nr_sent < ARRAY_SIZE(env->sent), "Too many commands");
	env->sent[env->nr_sent].id = id;
	env->sent[env->nr_sent++].seq = kvmi_send_vcpu(env->tool, id, 0, req, len);
}

static void enable_event(struct env *env, u16 event)
{
	struct kvmi_vcpu_control_events req = { .event_id = event, .enable = 1 };

	send_vcpu(env, KVMI_VCPU_CONTROL_EVENTS, &req, sizeof(req));
}

static void select_cr(struct env *env, u8 cr)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = 1 };

	send_vcpu(env, KVMI_VCPU_CONTROL_CR, &req, sizeof(req));
}

static void select_msr(struct env *env, u32 msr)
{
	struct kvmi_vcpu_control_msr req = { .msr = msr, .enable = 1 };

	send_vcpu(env, KVMI_VCPU_CONTROL_MSR, &req, sizeof(req));
}

/* What the guest has measured. */
static void measure_guest(struct env *env)
{
	u64 *round = addr_gva2hva(env->vm, (gva_t)guest_samples);

	/* Once to warm up. */
	run_guest(env);
	do {
		run_guest(env);
	} while (add_samples(env->samples, round, ROUND));
}

static void run_exits(struct env *env)
{
	create_vm(env);
	measure_guest(env);
	free_vm(env);
}

static void run_exits_hooked(struct env *env)
{
	create_vm(env);
	hook_vm(env);
	measure_guest(env);
	free_vm(env);
}

/* The guest does nothing of what the tool watches. */
static void run_exits_watched(struct env *env)
{
	int i;

	create_vm(env);
	hook_vm(env);
	enable_event(env, KVMI_VCPU_EVENT_HYPERCALL);
	enable_event(env, KVMI_VCPU_EVENT_CR);
	enable_event(env, KVMI_VCPU_EVENT_MSR);
	enable_event(env, KVMI_VCPU_EVENT_DESCRIPTOR);
	enable_event(env, KVMI_VCPU_EVENT_PF);
	select_cr(env, 0);
	select_msr(env, MSR_LSTAR);
	set_accesses(env->tool, PAGES_GPA, PAGES, ACCESS_READ);
	run_guest(env);
	for (i = 0; i < env->nr_sent; i++)
		TEST_ASSERT_EQ(kvmi_recv_reply(env->tool, env->sent[i].id, env->sent[i].seq,
					       NULL, 0, NULL), 0);
	measure_guest(env);
	free_vm(env);
}

/* Pages that KVM has to map, not the host's memory management. */
static void run_first_touch(struct env *env)
{
	u64 *round;

	create_vm(env);
	if (env->bench->kvmi)
		hook_vm(env);
	round = addr_gva2hva(env->vm, (gva_t)guest_samples);
	do {
		TEST_ASSERT(!madvise(env->hva, PAGES * PAGE_SIZE, MADV_DONTNEED), "madvise: %s",
			    strerror(errno));
		memset(env->hva, 0, PAGES * PAGE_SIZE);
		run_guest(env);
	} while (add_samples(env->samples, round, ROUND));
	free_vm(env);
}

/* The tool, answering events: one read and one write for each message. */

static void write_message(int fd, const void *data, size_t len)
{
	TEST_ASSERT(write(fd, data, len) == len, "write: %s", strerror(errno));
}

static void read_message(int fd, void *data, size_t len)
{
	ssize_t r = read(fd, data, len);

	TEST_ASSERT(r == len, "%zd instead of %zu bytes: %s", r, len, strerror(errno));
}

static void answer_event(int fd, const struct kvmi_ev *ev, u8 action, const void *data, size_t len)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
		u64 data;
	} msg = {
		.hdr.id = KVMI_VCPU_EVENT,
		.hdr.size = ANSWER_SIZE(len) - sizeof(msg.hdr),
		.hdr.seq = ev->hdr.seq,
		.vcpu.vcpu = ev->common.vcpu,
		.reply.action = action,
		.reply.event = ev->event.event,
	};

	if (len)
		memcpy(&msg.data, data, len);
	write_message(fd, &msg, ANSWER_SIZE(len));
}

static void lift_page(struct env *env, const struct kvmi_ev *ev)
{
	const struct kvmi_vcpu_event_pf *pf = (void *)ev->payload;
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_set_page_access req;
		struct kvmi_page_access_entry entry;
	} msg = {
		.hdr.id = KVMI_VM_SET_PAGE_ACCESS,
		.hdr.size = sizeof(msg) - sizeof(msg.hdr),
		.req.count = 1,
		.entry.gpa = pf->gpa,
		.entry.access = ACCESS_ALL,
	};
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_error_code ec;
	} reply;

	write_message(env->tool->fd, &msg, sizeof(msg));
	read_message(env->tool->fd, &reply, sizeof(reply));
	TEST_ASSERT_EQ(reply.ec.err, 0);
	answer_event(env->tool->fd, ev, KVMI_EVENT_ACTION_RETRY, NULL, 0);
}

static void answer_any(struct env *env, const struct kvmi_ev *ev)
{
	const struct kvmi_vcpu_event_msr *msr = (void *)ev->payload;
	const struct kvmi_vcpu_event_cr *cr = (void *)ev->payload;
	bool lift = env->bench->guest == guest_lift;
	int fd = env->tool->fd;

	switch (ev->event.event) {
	case KVMI_VCPU_EVENT_CR:
		answer_event(fd, ev, KVMI_EVENT_ACTION_CONTINUE, &cr->new_value, 8);
		return;
	case KVMI_VCPU_EVENT_MSR:
		answer_event(fd, ev, KVMI_EVENT_ACTION_CONTINUE, &msr->new_value, 8);
		return;
	case KVMI_VCPU_EVENT_PF:
		if (lift) {
			lift_page(env, ev);
			return;
		}
		break;
	case KVMI_VCPU_EVENT_HYPERCALL:
		if (lift)
			set_accesses(env->tool, PAGES_GPA, ROUND, ACCESS_READ);
		break;
	}
	answer_event(fd, ev, KVMI_EVENT_ACTION_CONTINUE, NULL, 0);
}

static void *answer_events(void *arg)
{
	struct env *env = arg;
	struct kvmi_ev ev;
	ssize_t r;
	int i;

	for (i = 0; i < env->nr_sent; i++)
		TEST_ASSERT_EQ(kvmi_recv_reply(env->tool, env->sent[i].id, env->sent[i].seq,
					       NULL, 0, NULL), 0);

	for (;;) {
		r = read(env->tool->fd, &ev, EVENT_SIZE(KVMI_MAX_PAYLOAD));
		if (r <= 0)
			return NULL;
		TEST_ASSERT(r == sizeof(ev.hdr) + ev.hdr.size, "%zd bytes read", r);
		answer_any(env, &ev);
	}
}

static void start_thread(struct env *env, void *(*fn)(void *env))
{
	TEST_ASSERT(!pthread_create(&env->thread, NULL, fn, env), "pthread_create");
}

static void run_events(struct env *env)
{
	const struct bench *bench = env->bench;

	create_vm(env);
	hook_vm(env);
	enable_event(env, bench->event);
	if (bench->event == KVMI_VCPU_EVENT_CR)
		select_cr(env, bench->cr);
	if (bench->event == KVMI_VCPU_EVENT_MSR)
		select_msr(env, bench->msr);
	if (bench->guest == guest_lift)
		enable_event(env, KVMI_VCPU_EVENT_HYPERCALL);
	else if (bench->event == KVMI_VCPU_EVENT_PF)
		set_accesses(env->tool, PAGES_GPA, 1, ACCESS_READ);
	start_thread(env, answer_events);
	measure_guest(env);
	kvmi_unhook(env->vm);
	pthread_join(env->thread, NULL);
	free_vm(env);
}

/* The tool, sending commands. */

static u64 command(struct env *env, const void *req, size_t len, size_t reply_size)
{
	static struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_error_code ec;
		u8 data[KVMI_MSG_SIZE];
	} reply;
	u64 start = ticks();

	write_message(env->tool->fd, req, len);
	read_message(env->tool->fd, &reply, reply_size);
	start = ticks() - start;
	TEST_ASSERT_EQ(reply.ec.err, 0);

	return start;
}

/* The same command all the time. */
static void measure_command(struct env *env, const void *req, size_t len, size_t reply_size)
{
	u64 round[ROUND];
	int i;

	do {
		for (i = 0; i < ROUND; i++)
			round[i] = command(env, req, len, reply_size);
	} while (add_samples(env->samples, round, ROUND));
}

static void run_get_version(struct env *env)
{
	struct kvmi_msg_hdr req = { .id = KVMI_GET_VERSION };

	create_vm(env);
	hook_vm(env);
	measure_command(env, &req, sizeof(req), REPLY_SIZE(sizeof(struct kvmi_get_version_reply)));
	free_vm(env);
}

static void run_read_physical(struct env *env)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_read_physical req;
	} msg = {
		.hdr.id = KVMI_VM_READ_PHYSICAL,
		.hdr.size = sizeof(msg.req),
		.req.size = PAGE_SIZE,
	};

	create_vm(env);
	hook_vm(env);
	msg.req.gpa = PAGES_GPA;
	measure_command(env, &msg, sizeof(msg), REPLY_SIZE(PAGE_SIZE));
	free_vm(env);
}

static void *run_vcpu(void *arg)
{
	run_guest(arg);
	return NULL;
}

/* While the vCPU waits for the reply to an event. */
static void run_get_registers(struct env *env)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_get_registers req;
	} msg = {
		.hdr.id = KVMI_VCPU_GET_REGISTERS,
		.hdr.size = sizeof(msg) - sizeof(msg.hdr),
	};
	struct kvmi_ev ev;

	create_vm(env);
	hook_vm(env);
	TEST_ASSERT_EQ(kvmi_pause(env->tool, 0, 0), 0);
	start_thread(env, run_vcpu);
	kvmi_expect_event(env->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	measure_command(env, &msg, sizeof(msg),
			REPLY_SIZE(sizeof(struct kvmi_vcpu_get_registers_reply)));
	kvmi_reply(env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	pthread_join(env->thread, NULL);
	free_vm(env);
}

/* One page in each sample, or all; restricted from rwx, mapped in the guest. */
static void measure_set_access(struct env *env, int nr)
{
	static struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_set_page_access req;
		struct kvmi_page_access_entry entries[PAGES];
	} msg;
	int i, j, n = nr == 1 ? ROUND : 1;
	u64 round[ROUND];

	memset(&msg, 0, sizeof(msg));
	msg.hdr.id = KVMI_VM_SET_PAGE_ACCESS;
	msg.hdr.size = ACCESS_SIZE(nr) - sizeof(msg.hdr);
	msg.req.count = nr;

	do {
		run_guest(env);
		for (i = 0; i < n; i++) {
			for (j = 0; j < nr; j++) {
				msg.entries[j].gpa = PAGES_GPA + (i + j) * PAGE_SIZE;
				msg.entries[j].access = ACCESS_READ;
			}
			round[i] = command(env, &msg, ACCESS_SIZE(nr), REPLY_SIZE(0));
		}
		set_accesses(env->tool, PAGES_GPA, n * nr, ACCESS_ALL);
	} while (add_samples(env->samples, round, n));
}

static void run_set_access_1(struct env *env)
{
	create_vm(env);
	hook_vm(env);
	measure_set_access(env, 1);
	free_vm(env);
}

static void run_set_access_511(struct env *env)
{
	create_vm(env);
	hook_vm(env);
	measure_set_access(env, PAGES);
	free_vm(env);
}

/* The floors. */

struct floor_peer {
	const u16 *legs;
	int fd;
};

static void *floor_peer(void *arg)
{
	static u8 buf[KVMI_MSG_SIZE + sizeof(struct kvmi_msg_hdr)];
	struct floor_peer *peer = arg;
	const u16 *legs = peer->legs;
	int i;

	for (;;) {
		for (i = 0; i < 4 && legs[i]; i += 2) {
			/* The other end is closed. */
			if (read(peer->fd, buf, legs[i]) != legs[i])
				return NULL;
			write_message(peer->fd, buf, legs[i + 1]);
		}
	}
}

static void run_floor(struct env *env)
{
	static u8 buf[KVMI_MSG_SIZE + sizeof(struct kvmi_msg_hdr)];
	const u16 *legs = env->bench->legs;
	struct floor_peer peer = { .legs = legs };
	u64 start, round[ROUND];
	pthread_t thread;
	int fds[2], i, j;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair: %s", strerror(errno));
	peer.fd = fds[1];
	TEST_ASSERT(!pthread_create(&thread, NULL, floor_peer, &peer), "pthread_create");
	do {
		for (i = 0; i < ROUND; i++) {
			start = ticks();
			for (j = 0; j < 4 && legs[j]; j += 2) {
				write_message(fds[0], buf, legs[j]);
				read_message(fds[0], buf, legs[j + 1]);
			}
			round[i] = ticks() - start;
		}
	} while (add_samples(env->samples, round, ROUND));
	close(fds[0]);
	pthread_join(thread, NULL);
	close(fds[1]);
}

static const struct bench benches[] = {
	/* On any kernel. */
	{ "cpuid", run_exits, .guest = guest_cpuid },
	{ "cr4", run_exits, .guest = guest_cr4 },
	{ "first_touch", run_first_touch, .guest = guest_touch },
	{ "floor_event_hypercall", run_floor, .legs = { EVENT_SIZE(0), ANSWER_SIZE(0) } },
	{ "floor_event_value", run_floor,
	  .legs = { EVENT_SIZE(sizeof(struct kvmi_vcpu_event_cr)), ANSWER_SIZE(8) } },
	{ "floor_pf_continue", run_floor,
	  .legs = { EVENT_SIZE(sizeof(struct kvmi_vcpu_event_pf)), ANSWER_SIZE(0) } },
	{ "floor_pf_lift", run_floor,
	  .legs = { EVENT_SIZE(sizeof(struct kvmi_vcpu_event_pf)), ACCESS_SIZE(1),
		    REPLY_SIZE(0), ANSWER_SIZE(0) } },
	{ "floor_get_version", run_floor,
	  .legs = { COMMAND_SIZE(0), REPLY_SIZE(sizeof(struct kvmi_get_version_reply)) } },
	{ "floor_get_registers", run_floor,
	  .legs = { COMMAND_SIZE(sizeof(struct kvmi_vcpu_hdr) +
				 sizeof(struct kvmi_vcpu_get_registers)),
		    REPLY_SIZE(sizeof(struct kvmi_vcpu_get_registers_reply)) } },
	{ "floor_read_physical_4096", run_floor,
	  .legs = { COMMAND_SIZE(sizeof(struct kvmi_vm_read_physical)), REPLY_SIZE(PAGE_SIZE) } },
	{ "floor_set_page_access_1", run_floor, .legs = { ACCESS_SIZE(1), REPLY_SIZE(0) } },
	{ "floor_set_page_access_511", run_floor, .legs = { ACCESS_SIZE(PAGES), REPLY_SIZE(0) } },

	/* Hooked, with nothing enabled; at work, with nothing to tell. */
	{ "cpuid_hooked", run_exits_hooked, true, guest_cpuid },
	{ "cr4_hooked", run_exits_hooked, true, guest_cr4 },
	{ "cpuid_watched", run_exits_watched, true, guest_cpuid },
	{ "cr4_watched", run_exits_watched, true, guest_cr4 },
	{ "first_touch_hooked", run_first_touch, true, guest_touch },
	{ "first_touch_200000", run_first_touch, true, guest_touch, .restricted = OTHER_PAGES },

	{ "event_hypercall", run_events, true, guest_hypercall, KVMI_VCPU_EVENT_HYPERCALL },
	{ "event_cr4", run_events, true, guest_cr4, KVMI_VCPU_EVENT_CR, .cr = 4 },
	{ "event_cr3", run_events, true, guest_cr3, KVMI_VCPU_EVENT_CR, .cr = 3 },
	{ "event_msr", run_events, true, guest_msr, KVMI_VCPU_EVENT_MSR, .msr = MSR_LSTAR },
	{ "pf_continue", run_events, true, guest_store, KVMI_VCPU_EVENT_PF },
	{ "pf_lift", run_events, true, guest_lift, KVMI_VCPU_EVENT_PF },
	{ "get_version", run_get_version, true, guest_halt },
	{ "get_registers", run_get_registers, true, guest_cpuid },
	{ "read_physical_4096", run_read_physical, true, guest_halt },
	{ "set_page_access_1", run_set_access_1, true, guest_map },
	{ "set_page_access_511", run_set_access_511, true, guest_map },

	/* Growth. */
	{ "set_page_access_1_after_1000", run_set_access_1, true, guest_map, .restricted = 1000 },
	{ "set_page_access_1_after_200000", run_set_access_1, true, guest_map,
	  .restricted = OTHER_PAGES },
	{ "set_page_access_511_after_1000", run_set_access_511, true, guest_map,
	  .restricted = 1000 },
	{ "set_page_access_511_after_200000", run_set_access_511, true, guest_map,
	  .restricted = OTHER_PAGES },
	{ "event_hypercall_8_vcpus", run_events, true, guest_hypercall,
	  KVMI_VCPU_EVENT_HYPERCALL, .vcpus = 8 },
	{ "event_hypercall_64_vcpus", run_events, true, guest_hypercall,
	  KVMI_VCPU_EVENT_HYPERCALL, .vcpus = 64 },
	{ "get_version_64_vcpus", run_get_version, true, guest_halt, .vcpus = 64 },
	{ "set_page_access_1_8_vcpus", run_set_access_1, true, guest_map, .vcpus = 8 },
	{ "set_page_access_1_64_vcpus", run_set_access_1, true, guest_map, .vcpus = 64 },
	{ "set_page_access_511_64_vcpus", run_set_access_511, true, guest_map, .vcpus = 64 },
};

static bool is_wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = optind; i < argc; i++) {
		if (!fnmatch(argv[i], name, 0))
			return true;
	}

	return argc == optind;
}

static void run_bench(const struct bench *bench)
{
	struct env *env = calloc(1, sizeof(*env));
	struct samples *s = calloc(1, sizeof(*s));

	TEST_ASSERT(env && s, "No memory");
	env->bench = bench;
	env->samples = s;
	bench->run(env);
	ksft_print_msg("bench %s %lu %lu %lu of %zu\n", bench->name, (unsigned long)s->min,
		       (unsigned long)s->median, (unsigned long)s->max, s->nr);
	ksft_test_result_pass("%s\n", bench->name);
	free(s);
	free(env);
}

int main(int argc, char **argv)
{
	bool kvmi = kvm_check_cap(KVM_CAP_INTROSPECTION) > 0;
	int i, opt, nr = 0;

	while ((opt = getopt(argc, argv, "r:")) != -1) {
		TEST_ASSERT(opt == 'r', "Usage: %s [-r ROUNDS] [GLOB...]", argv[0]);
		rounds = atoi_positive("Rounds", optarg);
	}

	for (i = 0; i < ARRAY_SIZE(benches); i++)
		nr += is_wanted(benches[i].name, argc, argv);

	setlinebuf(stdout);
	ksft_print_header();
	ksft_set_plan(nr);
	for (i = 0; i < ARRAY_SIZE(benches); i++) {
		if (!is_wanted(benches[i].name, argc, argv))
			continue;
		if (benches[i].kvmi && !kvmi)
			ksft_test_result_skip("%s # no KVM_CAP_INTROSPECTION\n", benches[i].name);
		else
			run_bench(&benches[i]);
	}

	ksft_finished();
}
