// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: everything at the same time. VMMs, tools and a hostile tool, each
 * a process of its own, do random things to two VMs, and are stopped and killed while
 * they do. The guests must not notice, and nobody may be left hanging.
 *
 * KVMI_STRESS_SEED and KVMI_STRESS_STEPS in the environment choose the schedule and its
 * length. The same seed gives each process the same choices, not the same moments.
 */
#include <fcntl.h>
#include <linux/bitmap.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define DEFAULT_STEPS		5000
#define CALM_STEPS		1000	/* from one time of calm to the next */

/* There are many threads, and a kernel that checks itself is slow. */
#define HANG_MS			(3 * KVMI_TIMEOUT_MS)

#define NR_VMS			2
#define MAX_VCPUS		6
#define VCPU_PAGES		4	/* of each vCPU, which nobody else writes */
#define NR_PAGES		(MAX_VCPUS * VCPU_PAGES)
#define MAX_PENDING		64	/* commands without a reply */

/* A memory slot that comes, goes and moves between two places. */
#define SLOT			10
#define SLOT_GPA(n)		(0x40000000ul + (n) * 0x200000ul)
#define SLOT_PAGES		16
#define SLOT_SIZE		(SLOT_PAGES * PAGE_SIZE)
#define SLOT_VALUE		0x5107510751075107ull

#define PROGRESS_PORT		0x2000

/* The processes. */
#define FIRST_TOOL		NR_VMS
#define HOSTILE_TOOL		(FIRST_TOOL + NR_VMS)
#define NR_ACTORS		(HOSTILE_TOOL + 1)

struct actor {
	pid_t pid;		/* 0 when it is about to be killed */
	u32 generation;
	u64 rounds;		/* it is alive */
	const char *doing;
	bool stopped;
	u64 wake_ms;
};

/* What everybody knows of a VM. */
struct vm_state {
	int fd;			/* in the VMM */
	u32 vcpus;
	bool deadlines;		/* the VMM may set some */
	u64 calmed;		/* the last time of calm that the VMM has noticed */
	u64 rounds, progress[MAX_VCPUS];
	gva_t gva[NR_PAGES];
	gpa_t gpa[NR_PAGES];
	gpa_t special[4];	/* page tables, code and more */
};

static struct {
	u64 steps, counts[64];
	u64 calm;		/* not 0: a time of calm. Odd: the VMMs unhook in it */
	u64 events, replies, errors, lost, crashes, mmio, interrupted;
	struct actor actors[NR_ACTORS];
	struct vm_state vms[NR_VMS];
} *shared;

/* Of this process. */
static struct actor *self;
static struct vm_state *state;
static int own_vm;
static struct kvm_random_state rng;
static const char *int3_lacks;
static u32 seed;

static const u8 injected_vectors[] = {
	DE_VECTOR, UD_VECTOR, NM_VECTOR, GP_VECTOR, PF_VECTOR, AC_VECTOR
};

static void take_step(int first_actor);

static u32 below(u32 limit)
{
	return kvm_random_u32(&rng) % limit;
}

static bool one_in(u32 n)
{
	return !below(n);
}

static void count(u64 *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

/* The guest. */

static void guest_skip_exception(struct ex_regs *regs)
{
}

/* RBX has the address of the counter. */
static void guest_count_exception(struct ex_regs *regs)
{
	++*(u64 *)regs->rbx;
}

static void guest_use_pages(gva_t pages, u64 n)
{
	u64 *value;
	int i;

	for (i = 0; i < VCPU_PAGES; i++, pages += PAGE_SIZE) {
		value = (u64 *)(pages + KVMI_PAGE_OFFSET);
		GUEST_ASSERT_EQ((u32)kvmi_guest_fetch(pages, 0), KVMI_PAGE_RET);
		asm volatile("incq %0" : "+m"(*value));
		GUEST_ASSERT_EQ(READ_ONCE(*value), n);
	}
}

/* Where it is; or was until now: what is not there reads as 0. */
static u64 guest_slot;

static void guest_use_slot(u64 n)
{
	u64 gva = READ_ONCE(guest_slot), value;

	if (!gva)
		return;
	gva += n % SLOT_PAGES * PAGE_SIZE;
	value = kvmi_guest_load(gva, 0);
	GUEST_ASSERT(!value || value == SLOT_VALUE);
	kvmi_guest_store(gva, SLOT_VALUE);
}

static void guest_use_registers(u64 n)
{
	u64 xcr0 = n & 1 ? XFEATURE_MASK_FP : XFEATURE_MASK_FP | XFEATURE_MASK_SSE;
	u64 cr0 = get_cr0() ^ X86_CR0_AM, cr4 = get_cr4() ^ X86_CR4_TSD;
	u64 cr3 = get_cr3() ^ BIT(3);
	struct desc_ptr idt = get_idt();

	/* Always set; but KVM emulates a read of what the VMM has set without it. */
	cr0 |= X86_CR0_ET;
	set_cr0(cr0);
	GUEST_ASSERT_EQ(get_cr0(), cr0);
	set_cr3(cr3);
	GUEST_ASSERT_EQ(get_cr3(), cr3);
	set_cr4(cr4);
	/* An emulated host may let its own CR4.MCE shine through. */
	GUEST_ASSERT_EQ(get_cr4() & X86_CR4_TSD, cr4 & X86_CR4_TSD);
	wrmsr(MSR_IA32_SYSENTER_EIP, n);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_SYSENTER_EIP), n);
	xsetbv(0, xcr0);
	GUEST_ASSERT_EQ(xgetbv(0), xcr0);
	asm volatile("lidt %0" : : "m"(idt));
	GUEST_ASSERT_EQ(get_idt().address, idt.address);
}

/* Does all that there are events for, and checks what comes of it. */
static void guest_main(gva_t pages, u64 int3_works)
{
	u64 n, i, ret, breakpoints = 0;

	kvmi_guest_may_spin();
	for (i = 0; i < VCPU_PAGES; i++)
		kvmi_guest_store(pages + i * PAGE_SIZE + KVMI_PAGE_OFFSET, 0);

	for (n = 1;; n++) {
		guest_use_pages(pages, n);
		guest_use_slot(n);
		guest_use_registers(n);
		ret = kvmi_guest_hypercall();
		GUEST_ASSERT(!ret || ret == -KVM_ENOSYS);
		if (int3_works) {
			asm volatile("int3" : : "b"(&breakpoints) : "memory");
			GUEST_ASSERT_EQ(READ_ONCE(breakpoints), n);
		}
		for (i = 0; i < 100; i++)
			cpu_relax();
		asm volatile("out %0, %1" : : "a"((u32)n), "d"((u16)PROGRESS_PORT));
	}
}

/* The VMM. */

/* A vCPU, and how it was at first. */
struct runner {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	u64 *progress;
	bool must_reset;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
};

static struct kvm_vm *vm;
static struct runner runners[MAX_VCPUS];
static gva_t guest_pages;
static void *slot_memory;
static gpa_t slot_gpa;			/* 0: there is none */
static u32 slot_flags, main_flags;
static unsigned long *dirty_log;
static __thread struct kvm_run *own_run;

/* Also if it comes before KVM_RUN has begun. */
static void leave_kvm_run(int sig)
{
	if (own_run)
		own_run->immediate_exit = 1;
}

static void handle_interruption(struct runner *runner)
{
	TEST_ASSERT(errno == EINTR, "KVM_RUN: %s", strerror(errno));
	count(&shared->interrupted);
	WRITE_ONCE(own_run->immediate_exit, 0);
	if (__atomic_exchange_n(&runner->must_reset, false, __ATOMIC_SEQ_CST)) {
		vcpu_sregs_set(runner->vcpu, &runner->sregs);
		vcpu_events_set(runner->vcpu, &runner->events);
		vcpu_regs_set(runner->vcpu, &runner->regs);
	}
}

static void handle_exit(struct runner *runner)
{
	struct ucall uc;

	switch (own_run->exit_reason) {
	case KVM_EXIT_IO:
		if (get_ucall(runner->vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT_EQ(own_run->io.port, PROGRESS_PORT);
		WRITE_ONCE(*runner->progress, *runner->progress + 1);
		count(&state->rounds);
		break;
	case KVM_EXIT_MMIO:
		count(&shared->mmio);
		memset(own_run->mmio.data, 0, sizeof(own_run->mmio.data));
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		TEST_ASSERT_EQ(own_run->system_event.type, KVM_SYSTEM_EVENT_CRASH);
		count(&shared->crashes);
		break;
	default:
		TEST_FAIL("vCPU %u: exit %u", runner->vcpu->id, own_run->exit_reason);
	}
}

static void *run_vcpu(void *arg)
{
	struct runner *runner = arg;

	/* The guests would have the processors, and the others wait for them. */
	setpriority(PRIO_PROCESS, syscall(SYS_gettid), 2);
	own_run = runner->vcpu->run;
	for (;;) {
		if (__vcpu_run(runner->vcpu))
			handle_interruption(runner);
		else
			handle_exit(runner);
	}

	return NULL;
}

static bool add_vcpu(long unused)
{
	struct runner *runner = &runners[state->vcpus];
	u32 id = state->vcpus;

	if (id == MAX_VCPUS)
		return false;

	runner->vcpu = vm_vcpu_add(vm, id, guest_main);
	runner->progress = &state->progress[id];
	vcpu_args_set(runner->vcpu, 2, guest_pages + id * VCPU_PAGES * PAGE_SIZE,
		      (u64)!int3_lacks);
	vcpu_regs_get(runner->vcpu, &runner->regs);
	vcpu_sregs_get(runner->vcpu, &runner->sregs);
	vcpu_events_get(runner->vcpu, &runner->events);
	TEST_ASSERT(!pthread_create(&runner->thread, NULL, run_vcpu, runner), "pthread_create");
	WRITE_ONCE(state->vcpus, id + 1);

	return true;
}

/* Where the tool listens; free again when it is dead. */
static socklen_t get_address(struct sockaddr_un *addr)
{
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	return offsetof(struct sockaddr_un, sun_path) + 1 +
	       sprintf(addr->sun_path + 1, "kvmi-stress-%d", own_vm);
}

static bool hook(long unused)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), err = -1;
	struct sockaddr_un addr;
	socklen_t len = get_address(&addr);

	if (!connect(sock, (struct sockaddr *)&addr, len)) {
		err = kvmi_hook_errno(vm, KVM_INTROSPECTION_HOOK, sock, 0);
		TEST_ASSERT(!err || err == EEXIST, "HOOK: %s", strerror(err));
	}
	close(sock);
	if (err)
		return false;

	/* It stays hooked, even if the tool has gone by now. */
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_COMMAND, -1, 1), 0);
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_EVENT, -1, 1), 0);
	return true;
}

static bool unhook(long unused)
{
	kvmi_unhook(vm);
	return true;
}

static bool preunhook(long unused)
{
	int err = kvmi_preunhook_errno(vm);

	TEST_ASSERT(!err || err == EFAULT || err == ENOENT, "PREUNHOOK: %s", strerror(err));
	return err != EFAULT;
}

/* Not for long: what is forbidden is not tested. */
static bool forbid_one(long cmd)
{
	s32 limit = cmd == (long)KVM_INTROSPECTION_EVENT ? KVMI_NEXT_VCPU_EVENT :
							   KVMI_NEXT_VCPU_MESSAGE;
	int err = kvmi_feature_errno(vm, cmd, below(limit), 0);

	TEST_ASSERT(!err || err == EFAULT || err == EPERM, "Forbid: %s", strerror(err));
	usleep(below(1000));
	kvmi_feature_errno(vm, cmd, -1, 1);
	return !err;
}

static bool set_deadline(long unused)
{
	u32 ms = state->deadlines && !one_in(3) ? 1 + below(20) : 0;
	int err = kvmi_deadline_errno(vm, ms, ms && one_in(8) ? 1 + below(4) : 0);

	TEST_ASSERT(!err || err == EFAULT, "DEADLINE: %s", strerror(err));
	return !err;
}

/*
 * Create it, move it, change its flags, or delete it. The guest does not use it where
 * it is about to be: KVM gives a warning if it finds a slot while it handles a fault on
 * a page that was in none.
 */
static bool change_slot(long unused)
{
	u64 *slot = addr_gva2hva(vm, (gva_t)&guest_slot);
	bool delete = slot_gpa && one_in(3);

	WRITE_ONCE(*slot, 0);
	if (!slot_gpa || one_in(2))
		slot_flags = one_in(2) ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	else if (!delete)
		slot_gpa = SLOT_GPA(slot_gpa == SLOT_GPA(0));
	slot_gpa = slot_gpa ?: SLOT_GPA(below(2));
	vm_set_user_memory_region(vm, SLOT, slot_flags, slot_gpa, delete ? 0 : SLOT_SIZE,
				  slot_memory);
	if (delete)
		slot_gpa = 0;
	WRITE_ONCE(*slot, slot_gpa);

	return true;
}

static bool switch_dirty_log(long unused)
{
	main_flags ^= KVM_MEM_LOG_DIRTY_PAGES;
	vm_mem_region_set_flags(vm, 0, main_flags);
	return true;
}

static bool get_dirty_log(long unused)
{
	bool slot = slot_gpa && slot_flags;

	if (main_flags)
		kvm_vm_get_dirty_log(vm, 0, dirty_log);
	if (slot)
		kvm_vm_get_dirty_log(vm, SLOT, dirty_log);
	return main_flags || slot;
}

static bool exit_immediately(long unused)
{
	WRITE_ONCE(runners[below(state->vcpus)].vcpu->run->immediate_exit, 1);
	return true;
}

/* All vCPUs, or one of them. */
static bool interrupt(long reset)
{
	u32 chosen = reset ? MAX_VCPUS : below(state->vcpus), i;

	for (i = 0; i < state->vcpus; i++) {
		if (chosen != MAX_VCPUS && chosen != i)
			continue;
		WRITE_ONCE(runners[i].must_reset, reset);
		pthread_kill(runners[i].thread, SIGUSR1);
	}
	return true;
}

static void create_vm(void)
{
	struct kvmi_page page;
	int i;

	vm = __vm_create(VM_SHAPE_DEFAULT, MAX_VCPUS, 64);
	for (i = 0; i < ARRAY_SIZE(injected_vectors); i++)
		vm_install_exception_handler(vm, injected_vectors[i], guest_skip_exception);
	vm_install_exception_handler(vm, BP_VECTOR, guest_count_exception);

	guest_pages = vm_alloc_pages(vm, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++) {
		kvmi_page_init(vm, guest_pages + i * PAGE_SIZE, &page);
		state->gva[i] = page.gva;
		state->gpa[i] = page.gpa;
	}
	state->special[0] = vm->mmu.pgd;
	state->special[1] = addr_gva2gpa(vm, vm->arch.idt);
	state->special[2] = addr_gva2gpa(vm, vm->arch.gdt);
	state->special[3] = addr_gva2gpa(vm, (gva_t)guest_main & PAGE_MASK);

	slot_memory = mmap(NULL, SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	for (i = 0; i < SLOT_PAGES; i++)
		*(u64 *)(slot_memory + i * PAGE_SIZE) = SLOT_VALUE;
	virt_map(vm, SLOT_GPA(0), SLOT_GPA(0), SLOT_PAGES);
	virt_map(vm, SLOT_GPA(1), SLOT_GPA(1), SLOT_PAGES);
	dirty_log = bitmap_zalloc(memslot2region(vm, 0)->region.memory_size / PAGE_SIZE);
}

static void be_vmm(void)
{
	struct sigaction sa = { .sa_handler = leave_kvm_run };
	int nr = 1 + below(4);
	u64 calm;

	sigaction(SIGUSR1, &sa, NULL);
	create_vm();
	state->deadlines = one_in(2);
	while (nr--)
		add_vcpu(0);
	WRITE_ONCE(state->fd, vm->fd);

	for (;; count(&self->rounds)) {
		calm = READ_ONCE(shared->calm);
		if (!calm) {
			take_step(0);
		} else if (calm != state->calmed) {
			if (calm & 1)
				kvmi_unhook(vm);
			WRITE_ONCE(state->calmed, calm);
		}
		usleep(below(500));
	}
}

/* The tool. */

static struct kvmi_tool *tool;		/* NULL: no connection */
static pid_t vmm_pid;			/* that it was made with */

static struct pending {
	u16 id;				/* 0: the reply has come */
	int page;
	u64 since_ms;
} pending[MAX_PENDING];

static struct kvmi_ev owed[MAX_VCPUS];
static bool owes[MAX_VCPUS];
static u32 last_event;
static u8 xsave[4096];			/* from some vCPU */

static bool is_same_vm(void)
{
	return vmm_pid == READ_ONCE(shared->actors[own_vm].pid);
}

static void begin_connection(int fd)
{
	tool = kvmi_adopt(NULL, fd);
	memset(pending, 0, sizeof(pending));
	memset(owes, 0, sizeof(owes));
	last_event = 0;
}

static bool end_connection(long unused)
{
	kvmi_free(tool);
	tool = NULL;
	return true;
}

static bool shut_down(long unused)
{
	shutdown(tool->fd, below(3));
	return true;
}

/* Take the VM from its VMM. Returns the tool's end of a connection, or -1. */
static int attach(void)
{
	int pidfd, fd, fds[2], err;
	struct kvm_vm copy = {};

	vmm_pid = READ_ONCE(shared->actors[own_vm].pid);
	pidfd = syscall(SYS_pidfd_open, vmm_pid, 0);
	fd = READ_ONCE(state->fd);
	copy.fd = pidfd < 0 || fd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	close(pidfd);
	if (copy.fd < 0)
		return -1;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
	err = kvmi_hook_errno(&copy, KVM_INTROSPECTION_ATTACH, fds[0], 0);
	TEST_ASSERT(!err || err == EEXIST || !is_same_vm(), "ATTACH: %s", strerror(err));
	close(copy.fd);
	close(fds[0]);
	if (!err)
		return fds[1];
	close(fds[1]);

	return -1;
}

/* Returns false if the connection has come to an end, or has no room for all of it. */
static bool send_frame(u16 id, u32 seq, const void *data, size_t len, int flags)
{
	u8 frame[sizeof(struct kvmi_msg_hdr) + len];
	struct kvmi_msg_hdr hdr = { .id = id, .size = len, .seq = seq };

	memcpy(frame, &hdr, sizeof(hdr));
	memcpy(frame + sizeof(hdr), data, len);
	return send(tool->fd, frame, sizeof(frame), MSG_NOSIGNAL | flags) == sizeof(frame);
}

/* Behind the header that commands for a vCPU have. */
struct request {
	struct kvmi_vcpu_hdr vcpu;
	union {
		u8 data[4096];
		struct kvmi_vm_read_physical physical;
		struct {
			struct kvmi_vm_set_page_access access;
			struct kvmi_page_access_entry entries[32];
		};
		struct kvmi_vm_pause_vcpu pause;
		struct kvmi_vcpu_control_events event;
		struct kvmi_vcpu_control_cr cr;
		struct kvmi_vcpu_control_msr msr;
		struct kvmi_vcpu_inject_exception inject;
		struct kvmi_vcpu_translate_gva translate;
		struct kvm_regs regs;
	};
};

static bool send_message(u16 id, u32 seq, const struct request *req, size_t len, int flags)
{
	if (id & 1)
		return send_frame(id, seq, req, sizeof(req->vcpu) + len, flags);
	return send_frame(id, seq, req->data, len, flags);
}

/* Without waiting for the reply. Returns false if too many are missing. */
static bool send_request(u16 id, const struct request *req, size_t len, int page)
{
	struct pending *slot = &pending[(tool->seq + 1) % MAX_PENDING];

	if (slot->id) {
		TEST_ASSERT(now_ms() - slot->since_ms < HANG_MS, "No reply to command %u",
			    slot->id);
		return false;
	}
	*slot = (struct pending) { .id = id, .page = page, .since_ms = now_ms() };
	if (!send_message(id, ++tool->seq, req, len, 0))
		end_connection(0);

	return true;
}

static u16 any_vcpu(void)
{
	return below(READ_ONCE(state->vcpus) ?: 1);
}

static u16 any_event(void)
{
	return KVMI_VCPU_EVENT_ID(below(KVMI_NEXT_VCPU_EVENT / 2));
}

static void restrict_pages(struct request *req)
{
	/* The last one is for Intel. */
	static const u8 masks[] = { 7, 7, 0, 1, 3, 5, 4 };
	int i;

	req->access.count = 1 + below(ARRAY_SIZE(req->entries));
	for (i = 0; i < req->access.count; i++) {
		req->entries[i].access = masks[below(ARRAY_SIZE(masks))];
		if (one_in(4))
			req->entries[i].gpa = SLOT_GPA(below(2)) + below(SLOT_PAGES) * PAGE_SIZE;
		else if (one_in(16))
			req->entries[i].gpa = state->special[below(ARRAY_SIZE(state->special))];
		else
			req->entries[i].gpa = state->gpa[below(NR_PAGES)];
	}
}

/* Good arguments for a command. Returns their size, which may be more than it needs. */
static size_t make_request(u16 id, struct request *req, int page)
{
	static const u8 crs[] = { 0, 3, 4 };
	u8 enable = below(2);

	switch (id) {
	case KVMI_VM_CHECK_COMMAND:
	case KVMI_VM_CHECK_EVENT:
		req->data[0] = below(KVMI_NEXT_VCPU_EVENT);
		break;
	case KVMI_VM_PAUSE_VCPU:
		req->pause.vcpu = any_vcpu();
		req->pause.wait = enable;
		break;
	case KVMI_VM_WRITE_PHYSICAL:
		/* The same fields; the guest does not use the end of the page. */
		req->physical.size = 1 + below(1024);
		req->physical.gpa = state->gpa[page] + PAGE_SIZE - req->physical.size;
		return sizeof(req->physical) + req->physical.size;
	case KVMI_VM_READ_PHYSICAL:
		req->physical.gpa = state->gpa[page];
		req->physical.size = PAGE_SIZE;
		break;
	case KVMI_VM_SET_PAGE_ACCESS:
		restrict_pages(req);
		return sizeof(req->access) + sizeof(req->entries);
	case KVMI_VM_CONTROL_EVENTS:
	case KVMI_VCPU_CONTROL_EVENTS:
		/* There is one event of the VM, with the id 0. */
		req->event.event_id = id & 1 ? any_event() : 0;
		req->event.enable = enable;
		break;
	case KVMI_VCPU_CONTROL_CR:
		req->cr.cr = crs[below(ARRAY_SIZE(crs))];
		req->cr.enable = enable;
		break;
	case KVMI_VCPU_CONTROL_MSR:
		req->msr.msr = MSR_IA32_SYSENTER_EIP;
		req->msr.enable = enable;
		break;
	case KVMI_VM_CONTROL_CLEANUP:
		req->data[0] = enable;
		break;
	case KVMI_VCPU_CONTROL_SINGLESTEP:
		/* It makes the guest slow. */
		req->data[0] = one_in(4);
		break;
	case KVMI_VCPU_INJECT_EXCEPTION:
		req->inject.nr = injected_vectors[below(ARRAY_SIZE(injected_vectors))];
		break;
	case KVMI_VCPU_TRANSLATE_GVA:
		req->translate.gva = state->gva[page];
		break;
	case KVMI_VCPU_SET_XSAVE:
		memcpy(req->data, xsave, sizeof(xsave));
		return sizeof(xsave);
	}

	return sizeof(req->physical);
}

static bool send_command(long id)
{
	struct request req = { .vcpu.vcpu = any_vcpu() };
	int page = below(NR_PAGES);
	size_t len = make_request(id, &req, page);

	return send_request(id, &req, len, page);
}

/* Those that only ask. */
static bool send_query(long unused)
{
	static const u16 ids[] = {
		KVMI_GET_VERSION, KVMI_VM_GET_INFO, KVMI_VM_GET_MAX_GFN,
		KVMI_VM_CHECK_COMMAND, KVMI_VM_CHECK_EVENT, KVMI_VCPU_GET_INFO,
		KVMI_VCPU_GET_REGISTERS, KVMI_VCPU_GET_CPUID, KVMI_VCPU_GET_XCR,
		KVMI_VCPU_GET_MTRR_TYPE, KVMI_VCPU_GET_XSAVE,
	};

	return send_command(ids[below(ARRAY_SIZE(ids))]);
}

/* Errors that a correct command can have. */
static bool is_expected_error(u16 id, int err)
{
	switch (err) {
	case 0:
	case -KVM_EPERM:
		return true;
	case -KVM_EBUSY:
		return id == KVMI_VCPU_INJECT_EXCEPTION || id == KVMI_VM_PAUSE_VCPU;
	case -KVM_EOPNOTSUPP:
		return id == KVMI_VCPU_SET_REGISTERS;
	case -KVM_EINVAL:
		return id == KVMI_VM_SET_PAGE_ACCESS;
	case -KVM_ENOENT:
		return id == KVMI_VM_CHECK_COMMAND || id == KVMI_VM_CHECK_EVENT;
	default:
		return false;
	}
}

static void check_data(const struct pending *command, const void *data)
{
	static u8 page[PAGE_SIZE];
	const struct kvmi_vcpu_get_registers_reply *regs = data;

	switch (command->id) {
	case KVMI_VM_READ_PHYSICAL:
		kvmi_page_fill(page);
		TEST_ASSERT(!memcmp(data, page, sizeof(u32)), "The code in a page has changed");
		break;
	case KVMI_VCPU_GET_REGISTERS:
		TEST_ASSERT_EQ(regs->mode, 8);
		break;
	case KVMI_VCPU_GET_XSAVE:
		memcpy(xsave, data, sizeof(xsave));
		break;
	case KVMI_VCPU_TRANSLATE_GVA:
		TEST_ASSERT_EQ(*(u64 *)data, state->gpa[command->page]);
		break;
	}
}

static void handle_reply(const struct kvmi_msg_hdr *hdr, const void *msg)
{
	struct pending *command = &pending[hdr->seq % MAX_PENDING];
	const struct kvmi_error_code *ec = msg;

	TEST_ASSERT(command->id == hdr->id && tool->seq - hdr->seq < MAX_PENDING,
		    "Reply to %u, seq %u, but %u was sent, and seq %u last", hdr->id, hdr->seq,
		    command->id, tool->seq);
	TEST_ASSERT(is_expected_error(hdr->id, ec->err) || !is_same_vm(), "Command %u: error %d",
		    hdr->id, ec->err);
	count(ec->err ? &shared->errors : &shared->replies);
	if (!ec->err)
		check_data(command, ec + 1);
	command->id = 0;
}

static void handle_event(const struct kvmi_msg_hdr *hdr, const void *msg)
{
	struct kvmi_ev ev = { .hdr = *hdr };
	u16 vcpu;

	memcpy(&ev.event, msg, hdr->size);
	TEST_ASSERT_EQ(hdr->seq, ++last_event);
	count(&shared->events);
	if (hdr->id == KVMI_VM_EVENT)
		return;

	vcpu = ev.common.vcpu;
	TEST_ASSERT(vcpu < MAX_VCPUS && (!owes[vcpu] || state->deadlines),
		    "Event of vCPU %u, which waits or does not exist", vcpu);
	owed[vcpu] = ev;
	owes[vcpu] = true;
}

static void handle_message(void)
{
	u8 msg[KVMI_MSG_SIZE] __aligned(8);
	struct kvmi_msg_hdr hdr;

	if (!kvmi_recv(tool, &hdr, msg, sizeof(msg))) {
		count(&shared->lost);
		end_connection(0);
	} else if (hdr.id == KVMI_VM_EVENT || hdr.id == KVMI_VCPU_EVENT) {
		handle_event(&hdr, msg);
	} else {
		handle_reply(&hdr, msg);
	}
}

static u8 choose_action(u16 event)
{
	bool can_retry = event == KVMI_VCPU_EVENT_PF || event == KVMI_VCPU_EVENT_BREAKPOINT ||
			 event == KVMI_VCPU_EVENT_DESCRIPTOR;

	if (one_in(500))
		return KVMI_EVENT_ACTION_CRASH;
	return can_retry && one_in(8) ? KVMI_EVENT_ACTION_RETRY : KVMI_EVENT_ACTION_CONTINUE;
}

static void answer(const struct kvmi_ev *ev)
{
	struct request req = { .vcpu.vcpu = ev->common.vcpu };
	struct {
		struct kvmi_vcpu_hdr hdr;
		struct kvmi_vcpu_event_reply reply;
		u64 value;
	} msg = {
		.hdr.vcpu = ev->common.vcpu,
		.reply.event = ev->event.event,
		.reply.action = choose_action(ev->event.event),
	};
	bool has_value = ev->event.event == KVMI_VCPU_EVENT_CR ||
			 ev->event.event == KVMI_VCPU_EVENT_MSR;

	/* With deadlines these may be the registers of an event that is over. */
	if (one_in(8) && !state->deadlines) {
		req.regs = ev->common.arch.regs;
		send_request(KVMI_VCPU_SET_REGISTERS, &req, sizeof(req.regs), 0);
	}
	/* The new value is at the same place in both. */
	memcpy(&msg.value, ev->payload + offsetof(struct kvmi_vcpu_event_cr, new_value),
	       sizeof(msg.value));
	owes[msg.hdr.vcpu] = false;
	if (tool && !send_frame(KVMI_VCPU_EVENT, ev->hdr.seq, &msg, has_value ? sizeof(msg) :
				offsetof(typeof(msg), value), 0))
		end_connection(0);
}

/* The VMM hooks the VM and connects, or the tool helps itself. */
static void get_connection(int listener)
{
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	struct ucred vmm = {};
	socklen_t len = sizeof(vmm);
	int fd;

	if (poll(&pfd, 1, below(10)) > 0) {
		fd = accept(listener, NULL, NULL);
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &vmm, &len);
		vmm_pid = vmm.pid;
	} else {
		fd = attach();
	}
	if (fd >= 0)
		begin_connection(fd);
}

static void be_tool(void)
{
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), i;
	struct sockaddr_un addr;
	socklen_t len = get_address(&addr);

	TEST_ASSERT(!bind(listener, (struct sockaddr *)&addr, len) && !listen(listener, 4),
		    "listen: %s", strerror(errno));
	for (;; count(&self->rounds)) {
		if (!tool)
			get_connection(listener);
		while (tool && kvmi_readable(tool, 0))
			handle_message();
		for (i = 0; tool && i < MAX_VCPUS; i++) {
			if (owes[i] && !one_in(4))
				answer(&owed[i]);
		}
		for (i = below(8); tool && i; i--)
			take_step(FIRST_TOOL);
		if (tool)
			kvmi_readable(tool, 1);
	}
}

/* The hostile tool. */

/* Let KVM send as much as it can, and have vCPUs wait. */
static bool hoard(long unused)
{
	static const u16 ids[] = {
		KVMI_VM_READ_PHYSICAL, KVMI_VM_PAUSE_VCPU, KVMI_VCPU_CONTROL_EVENTS
	};
	struct request req;
	size_t len;
	int i;

	for (i = 0; i < 3000; i++) {
		memset(&req, 0, 64);
		req.vcpu.vcpu = any_vcpu();
		len = make_request(ids[i % 3], &req, 0);
		if (!send_message(ids[i % 3], i, &req, len, MSG_DONTWAIT))
			break;
	}
	usleep(below(10000));

	return true;
}

/* An id that KVM does not know, or what breaks the rules: it closes the connection. */
static bool offend(long unused)
{
	struct kvmi_msg_hdr hdrs[] = {
		{ .id = 0x8000 | below(0x8000), .size = below(256) },
		{ .id = KVMI_GET_VERSION, .size = 0xffff },
		{ .id = KVMI_VCPU_EVENT },
		{ .id = KVMI_VM_WRITE_PHYSICAL },
		{ .id = KVMI_VM_SET_PAGE_ACCESS, .size = 1 },
	};
	int nr = one_in(2) ? 0 : below(ARRAY_SIZE(hdrs)), i;
	u8 data[256];

	for (i = 0; i < sizeof(data); i++)
		data[i] = below(256);
	send(tool->fd, &hdrs[nr], sizeof(hdrs[nr]), MSG_NOSIGNAL | MSG_DONTWAIT);
	/* The first one is complete with that. */
	send(tool->fd, data, nr ? 1 : hdrs[0].size, MSG_NOSIGNAL | MSG_DONTWAIT);
	return true;
}

static void be_hostile(void)
{
	int fd;

	for (;; count(&self->rounds)) {
		own_vm = below(NR_VMS);
		state = &shared->vms[own_vm];
		fd = attach();
		if (fd >= 0) {
			begin_connection(fd);
			do
				take_step(HOSTILE_TOOL);
			while (!one_in(4));
			end_connection(0);
		}
		usleep(below(50000));
	}
}

/* The orchestrator. */

static void fail(const char *what, int nr)
{
	struct actor *actor;
	int i, j;

	for (i = 0; i < NR_ACTORS; i++) {
		actor = &shared->actors[i];
		ksft_print_msg("Process %d: %s%s, %lu rounds\n", i, actor->doing ?: "nothing",
			       actor->stopped ? ", stopped" : "", (unsigned long)actor->rounds);
	}
	for (i = 0; i < NR_VMS; i++) {
		for (j = 0; j < shared->vms[i].vcpus; j++)
			ksft_print_msg("VM %d, vCPU %d: %lu\n", i, j,
				       (unsigned long)shared->vms[i].progress[j]);
	}
	TEST_FAIL("%s (%d)", what, nr);
}

/* Until it has ended, or stopped; returns true if it has stopped. */
static bool wait_for_process(pid_t pid, int options)
{
	u64 end_ms = now_ms() + HANG_MS;
	int status;

	while (waitpid(pid, &status, WNOHANG | options) <= 0) {
		if (now_ms() > end_ms)
			fail("A process does not end, or stop", pid);
		usleep(200);
	}
	if (WIFEXITED(status))
		fail("A process has failed", pid);

	return WIFSTOPPED(status);
}

static void start_actor(int nr)
{
	struct actor *actor = &shared->actors[nr];
	pid_t pid;

	if (nr < NR_VMS) {
		shared->vms[nr].fd = -1;
		shared->vms[nr].vcpus = 0;
	}
	actor->generation++;
	actor->doing = NULL;
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (pid) {
		WRITE_ONCE(actor->pid, pid);
		return;
	}

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	self = actor;
	own_vm = nr % NR_VMS;
	state = &shared->vms[own_vm];
	rng = new_kvm_random_state(seed + nr * 7919 + actor->generation * 104729);
	if (nr < FIRST_TOOL)
		be_vmm();
	else if (nr < HOSTILE_TOOL)
		be_tool();
	else
		be_hostile();
}

static void kill_actor(int nr)
{
	struct actor *actor = &shared->actors[nr];
	pid_t pid = actor->pid;

	WRITE_ONCE(actor->pid, 0);
	actor->stopped = false;
	kill(pid, SIGKILL);
	wait_for_process(pid, 0);
}

static void stop_actor(int nr)
{
	struct actor *actor = &shared->actors[nr];

	/* KVM_CREATE_VM can be interrupted, and the library does not try it again. */
	if (actor->stopped || (nr < NR_VMS && READ_ONCE(shared->vms[nr].fd) < 0))
		return;
	kill(actor->pid, SIGSTOP);
	actor->stopped = wait_for_process(actor->pid, WUNTRACED);
	actor->wake_ms = now_ms() + below(50);
}

static void wake_actor(int nr)
{
	shared->actors[nr].stopped = false;
	kill(shared->actors[nr].pid, SIGCONT);
}

static int any_actor(long vmm)
{
	return vmm ? below(NR_VMS) : FIRST_TOOL + below(NR_ACTORS - FIRST_TOOL);
}

static bool stop_one(long vmm)
{
	stop_actor(any_actor(vmm));
	return true;
}

static bool kill_one(long vmm)
{
	int nr = any_actor(vmm);

	kill_actor(nr);
	start_actor(nr);
	return true;
}

#define ORCHESTRATOR	-1

static const struct {
	const char *name;
	int who;		/* the first of those that do this */
	int weight;
	bool (*take)(long arg);	/* returns false if there was nothing to do */
	long arg;
} steps[] = {
	{ "stop a VMM", ORCHESTRATOR, 4, stop_one, true },
	{ "stop a tool", ORCHESTRATOR, 8, stop_one, false },
	{ "kill a VMM", ORCHESTRATOR, 1, kill_one, true },
	{ "kill a tool", ORCHESTRATOR, 4, kill_one, false },
	{ "hook", 0, 4, hook },
	{ "unhook", 0, 1, unhook },
	{ "preunhook", 0, 3, preunhook },
	{ "forbid a command", 0, 3, forbid_one, KVM_INTROSPECTION_COMMAND },
	{ "forbid an event", 0, 3, forbid_one, KVM_INTROSPECTION_EVENT },
	{ "set deadline", 0, 5, set_deadline },
	{ "change slot", 0, 10, change_slot },
	{ "switch dirty log", 0, 3, switch_dirty_log },
	{ "get dirty log", 0, 10, get_dirty_log },
	{ "add vCPU", 0, 1, add_vcpu },
	{ "signal", 0, 30, interrupt, false },
	{ "reset", 0, 3, interrupt, true },
	{ "immediate exit", 0, 10, exit_immediately },
	{ "control VM event", FIRST_TOOL, 24, send_command, KVMI_VM_CONTROL_EVENTS },
	{ "control cleanup", FIRST_TOOL, 24, send_command, KVMI_VM_CONTROL_CLEANUP },
	{ "pause", FIRST_TOOL, 120, send_command, KVMI_VM_PAUSE_VCPU },
	{ "read", FIRST_TOOL, 120, send_command, KVMI_VM_READ_PHYSICAL },
	{ "write", FIRST_TOOL, 120, send_command, KVMI_VM_WRITE_PHYSICAL },
	{ "restrict pages", FIRST_TOOL, 240, send_command, KVMI_VM_SET_PAGE_ACCESS },
	{ "control event", FIRST_TOOL, 360, send_command, KVMI_VCPU_CONTROL_EVENTS },
	{ "control CR", FIRST_TOOL, 120, send_command, KVMI_VCPU_CONTROL_CR },
	{ "control MSR", FIRST_TOOL, 120, send_command, KVMI_VCPU_CONTROL_MSR },
	{ "single-step", FIRST_TOOL, 120, send_command, KVMI_VCPU_CONTROL_SINGLESTEP },
	{ "inject", FIRST_TOOL, 120, send_command, KVMI_VCPU_INJECT_EXCEPTION },
	{ "translate", FIRST_TOOL, 120, send_command, KVMI_VCPU_TRANSLATE_GVA },
	{ "set XSAVE", FIRST_TOOL, 60, send_command, KVMI_VCPU_SET_XSAVE },
	{ "query", FIRST_TOOL, 360, send_query },
	{ "disconnect", FIRST_TOOL, 1, end_connection },
	{ "shut down", FIRST_TOOL, 1, shut_down },
	{ "hoard", HOSTILE_TOOL, 3, hoard },
	{ "offend", HOSTILE_TOOL, 4, offend },
	{ "shut down, hostile", HOSTILE_TOOL, 1, shut_down },
};

static int choose_step(int who)
{
	int i, sum = 0, chosen;

	for (i = 0; i < ARRAY_SIZE(steps); i++)
		sum += steps[i].who == who ? steps[i].weight : 0;
	chosen = below(sum);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		chosen -= steps[i].who == who ? steps[i].weight : 0;
		if (chosen < 0)
			break;
	}

	return i;
}

static void take_step(int who)
{
	int nr = choose_step(who);

	if (self)
		WRITE_ONCE(self->doing, steps[nr].name);
	if (steps[nr].take(steps[nr].arg)) {
		count(&shared->counts[nr]);
		count(&shared->steps);
	}
	if (self)
		WRITE_ONCE(self->doing, NULL);
}

/* A process that ends on its own has failed, and has said why. */
static void check_actors(void)
{
	siginfo_t info = {};

	if (!waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
		fail("A process has ended", info.si_pid);
}

static void await(const u64 *counter, u64 value, const char *or_else, int vm)
{
	u64 end_ms = now_ms() + HANG_MS;

	while (READ_ONCE(*counter) < value) {
		check_actors();
		if (now_ms() > end_ms)
			fail(or_else, vm);
		usleep(500);
	}
}

/*
 * No tool, or one that does nothing and is unhooked: each vCPU must go on, whatever it
 * was waiting for.
 */
static void calm_down(u64 nr)
{
	u64 before[MAX_VCPUS];
	int i, j;

	for (i = FIRST_TOOL; i < NR_ACTORS; i++) {
		if (nr % 2 && i != HOSTILE_TOOL)
			stop_actor(i);
		else
			kill_actor(i);
	}
	for (i = 0; i < NR_VMS; i++)
		wake_actor(i);
	WRITE_ONCE(shared->calm, nr);
	for (i = 0; i < NR_VMS; i++) {
		await(&shared->vms[i].calmed, nr, "A VMM hangs", i);
		memcpy(before, shared->vms[i].progress, sizeof(before));
		for (j = 0; j < shared->vms[i].vcpus; j++)
			await(&shared->vms[i].progress[j], before[j] + 2, nr % 2 ?
			      "A VM does not go on after UNHOOK" :
			      "A VM does not go on after the death of the tool", i);
	}
	ksft_print_msg("%lu steps, and nobody hangs\n", (unsigned long)shared->steps);
	WRITE_ONCE(shared->calm, 0);
	for (i = FIRST_TOOL; i < NR_ACTORS; i++) {
		if (shared->actors[i].stopped)
			wake_actor(i);
		else
			start_actor(i);
	}
}

/* Nobody is stopped for long: each process and each VM goes on. */
static void watch(void)
{
	static u64 seen[NR_ACTORS + NR_VMS], since_ms[NR_ACTORS + NR_VMS];
	u64 rounds;
	int i;

	for (i = 0; i < NR_ACTORS + NR_VMS; i++) {
		rounds = READ_ONCE(*(i < NR_ACTORS ? &shared->actors[i].rounds :
						     &shared->vms[i - NR_ACTORS].rounds));
		if (rounds != seen[i] || !since_ms[i])
			since_ms[i] = now_ms();
		seen[i] = rounds;
		if (now_ms() - since_ms[i] > HANG_MS)
			fail(i < NR_ACTORS ? "A process hangs" : "A VM hangs", i % NR_ACTORS);
	}
}

static void orchestrate(u64 nr_steps)
{
	u64 next_calm = CALM_STEPS, calms = 0;
	int i;

	while (shared->steps < nr_steps) {
		usleep(2000);
		check_actors();
		for (i = 0; i < NR_ACTORS; i++) {
			if (shared->actors[i].stopped && now_ms() > shared->actors[i].wake_ms)
				wake_actor(i);
		}
		if (one_in(16))
			take_step(ORCHESTRATOR);
		watch();
		if (shared->steps > next_calm) {
			calm_down(++calms);
			next_calm = shared->steps + CALM_STEPS;
		}
	}
	calm_down(++calms);
	calm_down(++calms);
}

/* What a command prints; 0 if that is nothing. */
static u64 read_number(const char *command)
{
	FILE *output = popen(command, "r");
	unsigned long value = 0;

	TEST_ASSERT(output, "popen");
	if (fscanf(output, "%lu", &value) != 1)
		value = 0;
	pclose(output);

	return value;
}

static u64 count_module_users(void)
{
	return read_number("cat /sys/module/kvm/refcnt 2>&-") +
	       read_number("cat /sys/module/kvm_amd/refcnt /sys/module/kvm_intel/refcnt 2>&-");
}

static u64 count_receivers(void)
{
	return read_number("cat /proc/[0-9]*/comm 2>&- | grep -c ^kvmi-[0-9]");
}

static u64 read_slab(void)
{
	return read_number("sed -n 's/^Slab://p' /proc/meminfo");
}

static void expect_no_leaks(void)
{
	int fd = open("/sys/kernel/debug/kmemleak", O_RDWR);
	char text[2048] = {};

	if (fd < 0)
		return;
	/* What is found at first may be a copy of a pointer that was about to be stored. */
	TEST_ASSERT(write(fd, "scan", 4) == 4 && write(fd, "scan", 4) == 4, "kmemleak: %s",
		    strerror(errno));
	TEST_ASSERT(!read(fd, text, sizeof(text) - 1), "kmemleak: %s", text);
	close(fd);
	ksft_print_msg("kmemleak has found nothing\n");
}

static void report(u64 ms)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(steps); i++)
		ksft_print_msg("%8lu %s\n", (unsigned long)shared->counts[i], steps[i].name);
	ksft_print_msg("%lu replies, %lu errors, %lu events, %lu connections lost\n",
		       (unsigned long)shared->replies, (unsigned long)shared->errors,
		       (unsigned long)shared->events, (unsigned long)shared->lost);
	ksft_print_msg("%lu + %lu rounds of the guests, %lu interruptions\n",
		       (unsigned long)shared->vms[0].rounds, (unsigned long)shared->vms[1].rounds,
		       (unsigned long)shared->interrupted);
	ksft_print_msg("%lu times MMIO, %lu crashes\n",
		       (unsigned long)shared->mmio, (unsigned long)shared->crashes);
	ksft_print_msg("seed %u: %lu steps in %lu ms, %lu in a second\n", seed,
		       (unsigned long)shared->steps, (unsigned long)ms,
		       (unsigned long)(shared->steps * 1000 / ms));
}

static u32 get_setting(const char *name, u32 value)
{
	const char *text = getenv(name);

	return text ? atoi_positive(name, text) : value;
}

FIXTURE(kvmi_stress) {
	u64 users;
	u64 slab;
};

FIXTURE_SETUP(kvmi_stress)
{
	self->users = count_module_users();
	self->slab = read_slab();
}

/* Nothing is left. */
FIXTURE_TEARDOWN(kvmi_stress)
{
	u64 end_ms = now_ms() + HANG_MS;

	while ((count_module_users() != self->users || count_receivers()) && now_ms() < end_ms)
		usleep(1000);
	TEST_ASSERT_EQ(count_module_users(), self->users);
	TEST_ASSERT_EQ(count_receivers(), 0);
	expect_no_leaks();
	ksft_print_msg("Slab: %lu kB before, %lu kB after\n", (unsigned long)self->slab,
		       (unsigned long)read_slab());
}

TEST_F_TIMEOUT(kvmi_stress, schedule, 7200)
{
	u64 nr_steps = get_setting("KVMI_STRESS_STEPS", DEFAULT_STEPS), start_ms;
	int i;

	seed = get_setting("KVMI_STRESS_SEED", now_ms() % 1000000 + 1);
	ksft_print_msg("KVMI_STRESS_SEED=%u KVMI_STRESS_STEPS=%lu\n", seed,
		       (unsigned long)nr_steps);
	rng = new_kvm_random_state(seed);
	int3_lacks = kvmi_int3_lacks(true);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	TEST_ASSERT(shared != MAP_FAILED, "mmap");

	start_ms = now_ms();
	for (i = 0; i < NR_ACTORS; i++)
		start_actor(i);
	orchestrate(nr_steps);
	for (i = 0; i < NR_ACTORS; i++)
		kill_actor(i);
	report(now_ms() - start_ms);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
