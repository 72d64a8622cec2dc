// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VM_SET_PAGE_ACCESS and KVMI_VCPU_EVENT_PF: what is
 * restricted, what the tool is told, and what becomes of the access.
 */
#include "kvm_test_harness.h"
#include "kvmi_step.h"
#include "kvmi_util.h"
#include "test_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X
#define RWX	(R | W | X)

/* What is in a page, and where. */
#define OFFSET		KVMI_PAGE_OFFSET
#define OLD_VALUE	KVMI_PAGE_VALUE
#define FETCHED		KVMI_PAGE_RET

#define NEW_VALUE	0x99aabbccddeeff00ull

/* What the guest of these tests has in the GDT. */
#define KERNEL_CS	0x8
#define KERNEL_DS	0x10
/* ... and how ring 3 comes back. */
#define USER_VECTOR	0x80

KVMI_TEST_SUITE(kvmi_page_access, 2);

/* More that the guest can do with memory. */
static u64 guest_add(u64 gva, u64 val)
{
	asm volatile("lock add %1, (%0)" : : "r"(gva), "r"(val) : "memory", "cc");
	return 0;
}

static u64 guest_cmpxchg(u64 gva, u64 val)
{
	u64 old = OLD_VALUE;

	asm volatile("lock cmpxchg %2, (%1)" : "+a"(old) : "r"(gva), "r"(val) : "memory", "cc");
	return old;
}

static u64 guest_copy(u64 to, u64 from)
{
	u64 count = 1;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	return count;
}

static u64 guest_fill(u64 gva, u64 count)
{
	asm volatile("rep stosb" : "+D"(gva), "+c"(count) : "a"(0x5a) : "memory");
	return count;
}

/* An instruction that KVM's emulator does not know. */
static u64 guest_strange_read(u64 gva, u64 unused)
{
	u64 val;

	asm volatile("pxor %%xmm0, %%xmm0\n\t"
		     "paddq (%1), %%xmm0\n\t"
		     "movq %%xmm0, %0" : "=r"(val) : "r"(gva) : "memory", "xmm0");
	return val;
}

/* The same by KVM's emulator. */
static u64 guest_emulated_read(u64 gva, u64 unused)
{
	u64 val;

	asm volatile(KVM_FEP "mov (%1), %0" : "=r"(val) : "r"(gva) : "memory");
	return val;
}

static u64 guest_emulated_write(u64 gva, u64 val)
{
	asm volatile(KVM_FEP "mov %1, (%0)" : : "r"(gva), "r"(val) : "memory");
	return val;
}

static u64 guest_emulated_cmpxchg(u64 gva, u64 val)
{
	u64 old = OLD_VALUE;

	asm volatile(KVM_FEP "lock cmpxchg %2, (%1)" : "+a"(old) : "r"(gva), "r"(val)
		     : "memory", "cc");
	return old;
}

static u64 guest_emulated_copy(u64 to, u64 from)
{
	u64 count = 1;

	asm volatile(KVM_FEP "rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	return count;
}

/* The other one that is called, as it has to be. */
#define FAR_OFFSET	0x100

static u64 guest_far_call(u64 gva, u64 unused)
{
	struct {
		u32 offset;
		u16 selector;
	} __packed target = { gva, KERNEL_CS };
	u64 ret;

	asm volatile("lcall *%1" : "=a"(ret) : "m"(target) : "memory");
	return ret;
}

/* Where ring 3 begins, and where ring 0 goes on when it has made the interrupt. */
extern u8 guest_in_ring3[], guest_back_in_kernel[];

static u64 guest_kernel_rsp;

static noinline u64 guest_in_user(kvmi_guest_fn fn, u64 gva, u64 val)
{
	u64 ret;

	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "mov %%rsp, %[rsp]\n\t"
		     "lea -1024(%%rsp), %%rax\n\t"
		     "and $-16, %%rax\n\t"
		     "pushq %[ds]\n\t"
		     "pushq %%rax\n\t"
		     "pushfq\n\t"
		     "pushq %[cs]\n\t"
		     "lea guest_in_ring3(%%rip), %%rax\n\t"
		     "pushq %%rax\n\t"
		     "iretq\n\t"
		     "guest_in_ring3: call *%[fn]\n\t"
		     "int $" __stringify(USER_VECTOR) "\n\t"
		     "guest_back_in_kernel:\n\t"
		     "mov $" __stringify(KERNEL_DS) ", %%ecx\n\t"
		     "mov %%ecx, %%ss\n\t"
		     "mov %[rsp], %%rsp\n\t"
		     "lea 128(%%rsp), %%rsp\n\t"
		     : "=&a"(ret), [rsp] "=m"(guest_kernel_rsp), "+D"(gva), "+S"(val)
		     : [fn] "r"(fn), [ds] "i"(KVMI_USER_DS), [cs] "i"(KVMI_USER_CS)
		     : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
	return ret;
}

static u64 guest_user_read(u64 gva, u64 unused)
{
	return guest_in_user(kvmi_guest_load, gva, 0);
}

static u64 guest_user_write(u64 gva, u64 val)
{
	return guest_in_user(kvmi_guest_store, gva, val);
}

static u64 guest_user_strange_write(u64 gva, u64 val)
{
	return guest_in_user(kvmi_guest_strange_store, gva, val);
}

static u64 guest_user_fetch(u64 gva, u64 unused)
{
	return guest_in_user(kvmi_guest_fetch, gva, 0);
}

/* Kinds of access, what they need, and what they do to the value. */
struct kind {
	const char *name;
	kvmi_guest_fn fn;
	u16 offset;
	u64 arg;
	u8 needs;	/* in the order in which it is found out: W before R */
	u64 ret;
	u64 after;
	bool emulated;
};

static const struct kind kinds[] = {
	{ "read", kvmi_guest_load, OFFSET, 0, R, OLD_VALUE, OLD_VALUE },
	{ "write", kvmi_guest_store, OFFSET, NEW_VALUE, W, NEW_VALUE, NEW_VALUE },
	{ "locked add", guest_add, OFFSET, 1, R | W, 0, OLD_VALUE + 1 },
	{ "cmpxchg", guest_cmpxchg, OFFSET, NEW_VALUE, R | W, OLD_VALUE, NEW_VALUE },
	{ "fetch", kvmi_guest_fetch, 0, 0, X, FETCHED, OLD_VALUE },
	{ "unknown write", kvmi_guest_strange_store, OFFSET, NEW_VALUE, W, NEW_VALUE, NEW_VALUE },
	{ "unknown read", guest_strange_read, OFFSET & ~0xf, 0, R, 0, OLD_VALUE },
	{ "far call", guest_far_call, FAR_OFFSET, 0, X, FETCHED, OLD_VALUE },
	{ "user read", guest_user_read, OFFSET, 0, R, OLD_VALUE, OLD_VALUE },
	{ "user write", guest_user_write, OFFSET, NEW_VALUE, W, NEW_VALUE, NEW_VALUE },
	{ "unknown user write", guest_user_strange_write, OFFSET, NEW_VALUE, W, NEW_VALUE,
	  NEW_VALUE },
	{ "user fetch", guest_user_fetch, 0, 0, X, FETCHED, OLD_VALUE },
	{ "emulated read", guest_emulated_read, OFFSET, 0, R, OLD_VALUE, OLD_VALUE, true },
	{ "emulated write", guest_emulated_write, OFFSET, NEW_VALUE, W, NEW_VALUE,
	  NEW_VALUE, true },
	{ "emulated cmpxchg", guest_emulated_cmpxchg, OFFSET, NEW_VALUE, R | W, OLD_VALUE,
	  NEW_VALUE, true },
};

/* A page for all of them, in a guest that has a ring 3. */
static void alloc_page(struct kvm_vm *vm, struct kvmi_page *page)
{
	/* MOV to EAX and a far return. */
	static const u8 code[] = {
		0xb8, FETCHED & 0xff, FETCHED >> 8, 0x00, 0x00, 0xcb
	};
	struct idt_entry *gates;

	kvmi_page_alloc(vm, page);
	memcpy(page->bytes + FAR_OFFSET, code, sizeof(code));
	gates = addr_gva2hva(vm, vm->arch.idt);
	kvmi_set_gate(vm, USER_VECTOR, (u64)guest_back_in_kernel);
	gates[USER_VECTOR].dpl = 3;
	kvmi_allow_user(vm, vm_alloc_page(vm) + getpagesize());
}

static const u8 masks[] = { 0, R, R | W, R | X, X };

static bool mask_is_legal(struct kvmi_tool *tool, const struct kvmi_page *page, u8 mask)
{
	int err = kvmi_set_page_access(tool, page->gpa, mask);

	if (err) {
		TEST_ASSERT_EQ(err, -KVM_EINVAL);
		TEST_ASSERT(mask == X, "Mask %u is refused", mask);
	}
	return !err;
}

/* One access under @mask, from its beginning to just before its end */
typedef void (*during_access)(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
			      const struct kind *kind, const struct kvmi_page *page, u8 mask);

/* The guest has what it would have without a tool, and the next one finds the same. */
static void check_access(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, const struct kind *kind,
			 const struct kvmi_page *page, u8 mask, during_access during)
{
	kvmi_call_begin(vcpu, kind->fn, page->gva + kind->offset, kind->arg);
	if (during)
		during(tool, vcpu, kind, page, mask);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), kind->ret);
	TEST_ASSERT_EQ(*page->value, kind->after);
	*page->value = OLD_VALUE;
}

/* All kinds of access under all masks; @denied: only where something is missing */
static void check_all(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, const struct kvmi_page *page,
		      bool denied, during_access during)
{
	int i, j;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];

		if (kind->emulated && !is_forced_emulation_enabled)
			continue;
		for (j = 0; j < ARRAY_SIZE(masks); j++) {
			if ((denied && !(kind->needs & ~masks[j])) ||
			    !mask_is_legal(tool, page, masks[j]))
				continue;
			check_access(tool, vcpu, kind, page, masks[j], during);
		}
		kvmi_restrict(tool, page, RWX);
		check_access(tool, vcpu, kind, page, RWX, NULL);
		kvmi_expect_quiet(tool);
	}
}

/* Each event is about something that the mask lacks and the access needs. */
static void pass_all(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, const struct kind *kind,
		     const struct kvmi_page *page, u8 mask)
{
	u8 missing = kind->needs & ~mask, seen = 0;
	struct kvmi_vcpu_event_pf *pf;
	struct kvmi_ev ev;
	int nr = 0;

	while (!kvmi_call_is_done(vcpu)) {
		if (!kvmi_readable(tool, 1))
			continue;
		kvmi_expect_event(tool, vcpu->id, KVMI_VCPU_EVENT_PF, &ev);
		pf = (void *)ev.payload;
		TEST_ASSERT(pf->access & missing, "%s, mask %u: event for %u", kind->name,
			    mask, pf->access);
		/* On a fetch all instructions of the page are restricted. */
		TEST_ASSERT(kind->needs == X || !(pf->access & seen),
			    "%s, mask %u: another event for %u", kind->name, mask, pf->access);
		if (kind->needs == X)
			kvmi_check_pf(&ev, ev.common.arch.regs.rip,
				      page->gpa | (ev.common.arch.regs.rip & 0xfff), X, false);
		else
			kvmi_check_pf(&ev, page->gva + kind->offset, page->gpa + kind->offset,
				      pf->access, kind->emulated && !seen);
		seen |= pf->access;
		nr++;
		kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	pr_debug("%s, mask %u: %d events\n", kind->name, mask, nr);
	TEST_ASSERT(!nr == !missing, "%s, mask %u: %d events", kind->name, mask, nr);
}

TEST_F(kvmi_page_access, pass)
{
	struct kvmi_runner runner;
	struct kvmi_page page;

	alloc_page(self->vm, &page);
	kvmi_start_agent(&runner, self->vcpu[0]);
	kvmi_enable_pf(self->tool, 0);
	check_all(self->tool, self->vcpu[0], &page, false, pass_all);
	kvmi_stop(&runner);
}

/* RETRY: the same again, until the tool has lifted the restriction. */
static void retry_and_lift(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, const struct kind *kind,
			   const struct kvmi_page *page, u8 mask)
{
	struct kvmi_vcpu_event_pf *pf;
	struct kvmi_ev ev;
	int i;

	for (i = 0; i < 3; i++) {
		kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PF, &ev);
		pf = (void *)ev.payload;
		TEST_ASSERT_EQ(pf->gpa, page->gpa + kind->offset);
		TEST_ASSERT_EQ(*page->value, OLD_VALUE);
		if (i == 2)
			kvmi_restrict(tool, page, RWX);
		kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_RETRY);
	}
}

TEST_F(kvmi_page_access, retry)
{
	struct kvmi_runner runner;
	struct kvmi_page page;

	alloc_page(self->vm, &page);
	kvmi_start_agent(&runner, self->vcpu[0]);
	kvmi_enable_pf(self->tool, 0);
	check_all(self->tool, self->vcpu[0], &page, true, retry_and_lift);
	kvmi_stop(&runner);
}

/* Nobody wants to know: the access is done, one after another. */
TEST_F(kvmi_page_access, without_events)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_page page;
	struct kvmi_ev ev;

	alloc_page(self->vm, &page);
	kvmi_start_agent(&runner, vcpu);
	check_all(self->tool, vcpu, &page, false, NULL);

	/* The restrictions were in force: with the event enabled there is one. */
	kvmi_restrict(self->tool, &page, R | X);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_store, page.gva + OFFSET, OLD_VALUE), OLD_VALUE);
	kvmi_expect_quiet(self->tool);
	kvmi_enable_pf(self->tool, 0);
	kvmi_call_begin(vcpu, kvmi_guest_store, page.gva + OFFSET, NEW_VALUE);
	kvmi_expect_pf(self->tool, 0, page.gva + OFFSET, page.gpa + OFFSET, W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), NEW_VALUE);
	kvmi_stop(&runner);
}

/* CONTINUE, when the last restriction of the VM was lifted meanwhile. */
static void lift_and_pass(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, const struct kind *kind,
			  const struct kvmi_page *page, u8 mask)
{
	struct kvmi_ev ev;

	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PF, &ev);
	kvmi_restrict(tool, page, RWX);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
}

TEST_F(kvmi_page_access, lifted)
{
	struct kvmi_runner runner;
	struct kvmi_page page;

	alloc_page(self->vm, &page);
	kvmi_start_agent(&runner, self->vcpu[0]);
	kvmi_enable_pf(self->tool, 0);
	check_all(self->tool, self->vcpu[0], &page, true, lift_and_pass);
	kvmi_stop(&runner);
}

/* The instruction is not executed: the tool says where to go on. */
TEST_F(kvmi_page_access, skip)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_page page;
	struct kvmi_ev ev;

	kvmi_page_alloc(self->vm, &page);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page, R | X);

	kvmi_call_begin(vcpu, kvmi_guest_store, page.gva + OFFSET, NEW_VALUE);
	kvmi_expect_pf(self->tool, 0, page.gva + OFFSET, page.gpa + OFFSET, W, &ev);
	regs = ev.common.arch.regs;
	regs.rip += 3;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), NEW_VALUE);
	TEST_ASSERT_EQ(*page.value, OLD_VALUE);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* The end of introspection, whichever, is the end of all restrictions. */
TEST_F(kvmi_page_access, end)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_page page;
	struct kvmi_ev ev;

	kvmi_page_alloc(self->vm, &page);
	kvmi_start_agent(&runner, vcpu);

	/* UNHOOK while the tool owes a reply. */
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page, 0);
	kvmi_call_begin(vcpu, kvmi_guest_store, page.gva + OFFSET, NEW_VALUE);
	kvmi_expect_pf(self->tool, 0, page.gva + OFFSET, page.gpa + OFFSET, W, &ev);
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), NEW_VALUE);
	TEST_ASSERT_EQ(*page.value, NEW_VALUE);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_load, page.gva + OFFSET, 0), NEW_VALUE);

	/* The tool dies. */
	self->tool = kvmi_rehook(self->tool);
	kvmi_enable_pf(self->tool, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_store, page.gva + OFFSET, OLD_VALUE), OLD_VALUE);
	kvmi_restrict(self->tool, &page, 0);
	kvmi_call_begin(vcpu, kvmi_guest_strange_store, page.gva + OFFSET, NEW_VALUE);
	kvmi_expect_pf(self->tool, 0, page.gva + OFFSET, page.gpa + OFFSET, W, &ev);
	kvmi_close(self->tool);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), NEW_VALUE);
	TEST_ASSERT_EQ(*page.value, NEW_VALUE);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_load, page.gva + OFFSET, 0), NEW_VALUE);
	kvmi_stop(&runner);
}

/* An instruction that touches two restricted pages, or the border of them. */
TEST_F(kvmi_page_access, two_pages)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	kvmi_guest_fn copy = guest_copy;
	struct kvmi_runner runner;
	struct kvmi_page page[2];
	struct kvmi_ev ev;
	int round;
	gva_t gva;

	gva = vm_alloc_pages(self->vm, 2);
	kvmi_page_init(self->vm, gva, &page[0]);
	kvmi_page_init(self->vm, gva + getpagesize(), &page[1]);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);

	for (round = 0; round < 2; round++) {
		kvmi_restrict(self->tool, &page[0], 0);
		kvmi_restrict(self->tool, &page[1], R);
		*page[0].value = NEW_VALUE;
		kvmi_call_begin(vcpu, copy, page[1].gva + OFFSET, page[0].gva + OFFSET);
		kvmi_expect_pf(self->tool, 0, page[0].gva + OFFSET, page[0].gpa + OFFSET, R, &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_pf(self->tool, 0, page[1].gva + OFFSET, page[1].gpa + OFFSET, W, &ev);
		TEST_ASSERT_EQ(*page[1].value, OLD_VALUE);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(*page[1].value, NEW_VALUE);
		*page[1].value = OLD_VALUE;
		kvmi_expect_quiet(self->tool);
		if (is_forced_emulation_enabled)
			copy = guest_emulated_copy;
	}

	/* Across the border. */
	kvmi_restrict(self->tool, &page[0], R);
	kvmi_call_begin(vcpu, kvmi_guest_store, page[1].gva - 4, NEW_VALUE);
	kvmi_expect_pf(self->tool, 0, page[1].gva - 4, page[1].gpa - 4, W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_pf(self->tool, 0, page[1].gva, page[1].gpa, W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), NEW_VALUE);
	TEST_ASSERT(!memcmp(page[1].bytes - 4, &(u64){ NEW_VALUE }, 8), "Not written");
	kvmi_expect_quiet(self->tool);

	kvmi_call_begin(vcpu, kvmi_guest_strange_store, page[1].gva - 4, OLD_VALUE);
	kvmi_expect_pf(self->tool, 0, page[1].gva - 4, page[1].gpa - 4, W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_pf(self->tool, 0, page[1].gva, page[1].gpa, W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), OLD_VALUE);
	TEST_ASSERT(!memcmp(page[1].bytes - 4, &(u64){ OLD_VALUE }, 8), "Not written");
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* A string instruction is one instruction, on as many pages as it touches. */
TEST_F(kvmi_page_access, string)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_page page[2];
	struct kvmi_ev ev;
	gva_t gva;
	int i;

	gva = vm_alloc_pages(self->vm, 2);
	kvmi_page_init(self->vm, gva, &page[0]);
	kvmi_page_init(self->vm, gva + getpagesize(), &page[1]);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page[0], R);
	kvmi_restrict(self->tool, &page[1], R);

	kvmi_call_begin(vcpu, guest_fill, page[1].gva - 16, 32);
	kvmi_expect_pf(self->tool, 0, page[1].gva - 16, page[1].gpa - 16, W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_pf(self->tool, 0, page[1].gva, page[1].gpa, W, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	for (i = -16; i < 16; i++)
		TEST_ASSERT_EQ(page[1].bytes[i], 0x5a);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Bad requests. */
TEST_F(kvmi_page_access, errors)
{
	struct kvmi_vm_set_page_access *req;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_page_access_entry entries[3] = {};
	struct kvmi_runner runner;
	struct kvmi_page page[3];
	char buf[sizeof(*req) + 2 * sizeof(entries[0])] = {};
	int i;

	for (i = 0; i < 3; i++) {
		kvmi_page_alloc(self->vm, &page[i]);
		entries[i].gpa = page[i].gpa;
		entries[i].access = R;
	}
	req = (void *)buf;

	/* Nothing. */
	TEST_ASSERT_EQ(kvmi_set_page_accesses(self->tool, entries, 0), 0);

	/* Masks, bits, padding, no such page. */
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, page[0].gpa, W), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, page[0].gpa, W | X), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, page[0].gpa, RWX + 1), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, page[0].gpa, 0x80 | R), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, 1ull << 45, R), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_set_page_access(self->tool, ~0ull, R), -KVM_EINVAL);
	for (i = 0; i < sizeof(entries[0].padding); i++) {
		entries[0].padding[i] = 1;
		TEST_ASSERT_EQ(kvmi_set_page_accesses(self->tool, entries, 1), -KVM_EINVAL);
		entries[0].padding[i] = 0;
	}
	req->count = 1;
	memcpy(req->entries, entries, sizeof(entries[0]));
	req->padding1 = 1;
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_SET_PAGE_ACCESS, buf,
				sizeof(*req) + sizeof(entries[0]), NULL, 0), -KVM_EINVAL);
	req->padding1 = 0;
	req->padding2 = 1;
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_SET_PAGE_ACCESS, buf,
				sizeof(*req) + sizeof(entries[0]), NULL, 0), -KVM_EINVAL);
	req->padding2 = 0;
	kvmi_expect_command_denied(self->tool, KVMI_VM_SET_PAGE_ACCESS);

	/* Nothing of that had an effect. */
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_store, page[0].gva + OFFSET, NEW_VALUE),
		       NEW_VALUE);
	kvmi_expect_quiet(self->tool);

	/* All are tried. */
	entries[1].access = W;
	TEST_ASSERT_EQ(kvmi_set_page_accesses(self->tool, entries, 3), -KVM_EINVAL);
	for (i = 0; i < 3; i++) {
		struct kvmi_ev ev;

		kvmi_call_begin(vcpu, kvmi_guest_store, page[i].gva + OFFSET, NEW_VALUE);
		if (i != 1) {
			kvmi_expect_pf(self->tool, 0, page[i].gva + OFFSET, page[i].gpa + OFFSET,
				       W, &ev);
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
		kvmi_call_end(vcpu);
	}
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);

	/* Fewer entries than it says. */
	req->count = 2;
	kvmi_send(self->tool, KVMI_VM_SET_PAGE_ACCESS, buf, sizeof(*req) + sizeof(entries[0]));
	kvmi_expect_closed(self->tool);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
