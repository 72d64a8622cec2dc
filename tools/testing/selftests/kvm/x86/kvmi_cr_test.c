// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VCPU_CONTROL_CR and KVMI_VCPU_EVENT_CR.
 */
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "smm.h"
#include "test_util.h"

#define X86_FEATURE_PGE		KVM_X86_CPU_FEATURE(0x1, 0, EDX, 13)
#define X86_FEATURE_TSC		KVM_X86_CPU_FEATURE(0x1, 0, EDX, 4)

/* A bit of CR3 that says how the root is cached: it can be changed at will. */
#define CR3_PWT			BIT_ULL(3)

/* Writes of the guest, to see how many of them are intercepted. */
#define WRITES			400

KVMI_TEST_SUITE(kvmi_cr, 2);

static const int crs[] = { 0, 3, 4 };

/* What the guest can do. Writes return the exception that they got, or 0. */
static u64 guest_write_cr(u64 cr, u64 value)
{
	switch (cr) {
	case 0:
		return kvmi_guest_try("mov %%rax, %%cr0", "a"(value));
	case 3:
		return kvmi_guest_try("mov %%rax, %%cr3", "a"(value));
	default:
		return kvmi_guest_try("mov %%rax, %%cr4", "a"(value));
	}
}

/* The same by KVM's emulator. */
static u64 guest_emulate_write_cr(u64 cr, u64 value)
{
	switch (cr) {
	case 0:
		return kvmi_guest_try_fep("mov %%rax, %%cr0", "a"(value));
	case 3:
		return kvmi_guest_try_fep("mov %%rax, %%cr3", "a"(value));
	default:
		return kvmi_guest_try_fep("mov %%rax, %%cr4", "a"(value));
	}
}

static u64 guest_read_cr(u64 cr, u64 unused)
{
	switch (cr) {
	case 0:
		return get_cr0();
	case 3:
		return get_cr3();
	default:
		/*
		 * QEMU's SVM has no intercept for reading CR4, so that the guest
		 * sees the host's CR4.MCE, which KVM keeps set in hardware.
		 */
		return get_cr4() & ~X86_CR4_MCE;
	}
}

static u64 guest_lmsw(u64 value, u64 unused)
{
	asm volatile("lmsw %w0" : : "r"(value) : "memory");
	return 0;
}

/* Returns what is in rbx after the write. */
static u64 guest_write_cr0_rbx(u64 value, u64 rbx)
{
	asm volatile("mov %[value], %%cr0" : "+b"(rbx) : [value]"r"(value) : "memory");
	return rbx;
}

static u64 guest_rdfsbase(u64 a0, u64 a1)
{
	return kvm_asm_safe("rdfsbase %%r9", "a"(0));
}

/* An even number of writes. */
static u64 guest_toggle(u64 cr, u64 bit)
{
	u64 value = guest_read_cr(cr, 0);
	int i;

	for (i = 0; i < WRITES; i++) {
		value ^= bit;
		if (guest_write_cr(cr, value) || guest_read_cr(cr, 0) != value)
			return 1;
	}

	return 0;
}

/* KVM_SET_SREGS does not set CR0.ET, which is always set in a processor. */
static void start_agent(struct kvmi_runner *runner, struct kvm_vcpu *vcpu)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr0 |= X86_CR0_ET;
	vcpu_sregs_set(vcpu, &sregs);
	kvmi_start_agent(runner, vcpu);
}

static u64 read_cr(struct kvm_vcpu *vcpu, int cr)
{
	return kvmi_call(vcpu, guest_read_cr, cr, 0);
}

/* A bit that the guest may change, and that is of no consequence. */
static u64 harmless_bit(int cr)
{
	return cr == 0 ? X86_CR0_WP : cr == 3 ? CR3_PWT : X86_CR4_TSD;
}

static void select_cr(struct kvmi_tool *tool, u16 vcpu, int cr)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, vcpu, KVMI_VCPU_EVENT_CR, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, vcpu, cr, 1), 0);
}

static u64 event_cr(const struct kvmi_ev *ev, int cr)
{
	const struct kvm_sregs *sregs = &ev->common.arch.sregs;

	return cr == 0 ? sregs->cr0 : cr == 3 ? sregs->cr3 : sregs->cr4;
}

static void check_cr_event(const struct kvmi_ev *ev, int cr, u64 old, u64 new)
{
	const struct kvmi_vcpu_event_cr *payload = (void *)ev->payload;
	static const u8 zero[7];

	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT_EQ(payload->cr, cr);
	TEST_ASSERT_EQ(payload->old_value, old);
	TEST_ASSERT_EQ(payload->new_value, new);
	TEST_ASSERT(!memcmp(payload->padding, zero, sizeof(zero)), "Padding");

	/* It has not happened yet. */
	TEST_ASSERT_EQ(event_cr(ev, cr), old);
}

static void expect_cr(struct kvmi_tool *tool, u16 vcpu, int cr, u64 old, u64 new,
		      struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_CR, ev);
	check_cr_event(ev, cr, old, new);
}

/*
 * vCPU 0 writes @new over @old, and the tool wants @verdict: returns what the
 * guest gets.
 */
static u64 write_watched(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, int cr,
			 u64 old, u64 new, u64 verdict)
{
	struct kvmi_ev ev;

	kvmi_call_begin(vcpu, guest_write_cr, cr, new);
	expect_cr(tool, vcpu->id, cr, old, new, &ev);
	TEST_ASSERT(!kvmi_call_is_done(vcpu), "The guest did not wait");
	kvmi_reply_value(tool, &ev, verdict);

	return kvmi_call_end(vcpu);
}

/* A write that the tool does not hear of. */
static void write_unwatched(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, int cr,
			    u64 value)
{
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, cr, value), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, cr), value);
	if (tool)
		kvmi_expect_quiet(tool);
}

TEST_F(kvmi_cr, control_errors)
{
	static const struct kvmi_vcpu_control_cr bad[] = {
		{ .cr = 0, .enable = 2 },
		{ .cr = 0, .enable = 0xff },
		{ .cr = 0, .enable = 1, .padding1 = 1 },
		{ .cr = 0, .enable = 1, .padding1 = 0x8000 },
		{ .cr = 0, .enable = 1, .padding2 = 1 },
		{ .cr = 0, .enable = 0, .padding2 = 1u << 31 },
		{ .cr = 1, .enable = 1 },
		{ .cr = 2, .enable = 1 },
		{ .cr = 2, .enable = 0 },
		{ .cr = 5, .enable = 1 },
		{ .cr = 8, .enable = 1 },
		{ .cr = 0xff, .enable = 1 },
	};
	struct kvmi_vcpu_control_cr req = { .cr = 3, .enable = 1 };
	struct kvmi_runner runner;
	u64 cr0;
	int i;

	start_agent(&runner, self->vcpu[0]);
	kvmi_expect_errors(self->tool, KVMI_VCPU_CONTROL_CR, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EINVAL);
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_CONTROL_CR);

	/* What is missing is zero: CR3 or CR0, off or on. */
	for (i = 0; i <= sizeof(req); i++)
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_CONTROL_CR, 0, &req, i,
					     NULL, 0), 0);

	/* Twice the same is fine. */
	for (i = 0; i < 12; i++)
		TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, crs[i % 3], i / 3 < 2), 0);

	/* No error has had an effect. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_CR, 1), 0);
	kvmi_expect_errors(self->tool, KVMI_VCPU_CONTROL_CR, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EINVAL);
	cr0 = read_cr(self->vcpu[0], 0);
	write_unwatched(self->tool, self->vcpu[0], 0, cr0 ^ X86_CR0_WP);
	kvmi_stop(&runner);
}

TEST_F(kvmi_cr, event)
{
	struct kvmi_runner runner;
	u64 old, new;
	int i, round;

	start_agent(&runner, self->vcpu[0]);
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		select_cr(self->tool, 0, crs[i]);
		old = read_cr(self->vcpu[0], crs[i]);
		for (round = 0; round < 4; round++) {
			new = old ^ harmless_bit(crs[i]);
			TEST_ASSERT_EQ(write_watched(self->tool, self->vcpu[0], crs[i],
						     old, new, new), 0);
			TEST_ASSERT_EQ(read_cr(self->vcpu[0], crs[i]), new);
			old = new;
		}
	}
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* The guest owns WP if nobody watches: neither a write nor its result gets lost. */
TEST_F(kvmi_cr, write_protect)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 with, without;
	int round;

	start_agent(&runner, vcpu);
	without = read_cr(vcpu, 0) & ~X86_CR0_WP;
	with = without | X86_CR0_WP;

	for (round = 0; round < 3; round++) {
		write_unwatched(self->tool, vcpu, 0, without);
		write_unwatched(self->tool, vcpu, 0, with);

		/* Set while nobody watched. */
		select_cr(self->tool, 0, 0);
		TEST_ASSERT_EQ(read_cr(vcpu, 0), with);
		TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 0, with, without, without), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, 0), without);

		/* Cleared when nobody watches any more. */
		TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, 0, 0), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, 0), without);
		write_unwatched(self->tool, vcpu, 0, with);
	}
	kvmi_stop(&runner);
}

/* The same for the bits of CR4. */
TEST_F(kvmi_cr, cr4_bits)
{
	const struct {
		struct kvm_x86_cpu_feature feature;
		u64 bit;
	} cases[] = {
		{ X86_FEATURE_PGE, X86_CR4_PGE },
		{ X86_FEATURE_TSC, X86_CR4_TSD },
		{ X86_FEATURE_FSGSBASE, X86_CR4_FSGSBASE },
		{ X86_FEATURE_SMEP, X86_CR4_SMEP },
		{ X86_FEATURE_UMIP, X86_CR4_UMIP },
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	int i, tested = 0;
	u64 old, new;

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!vcpu_cpuid_has(vcpu, cases[i].feature))
			continue;
		tested++;

		old = read_cr(vcpu, 4);
		new = old ^ cases[i].bit;
		write_unwatched(self->tool, vcpu, 4, new);
		write_unwatched(self->tool, vcpu, 4, old);
		select_cr(self->tool, 0, 4);
		TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 4, old, new, new), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, 4), new);
		TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 4, new, old, old), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, 4), old);
		TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, 4, 0), 0);
		write_unwatched(self->tool, vcpu, 4, new);
		write_unwatched(self->tool, vcpu, 4, old);
	}
	TEST_ASSERT(tested >= 2, "The vCPU has %d of these bits", tested);
	kvmi_stop(&runner);
}

/* Both the event and the register must be enabled, in any order. */
TEST_F(kvmi_cr, both_enabled)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 old, new;

	start_agent(&runner, vcpu);
	old = read_cr(vcpu, 0);
	new = old ^ X86_CR0_WP;

	/* The event alone. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_CR, 1), 0);
	write_unwatched(self->tool, vcpu, 0, new);
	write_unwatched(self->tool, vcpu, 0, old);

	/* Another register. */
	TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, 4, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, 3, 1), 0);
	write_unwatched(self->tool, vcpu, 0, new);
	write_unwatched(self->tool, vcpu, 0, old);

	/* The register alone. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_CR, 0), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, 0, 1), 0);
	write_unwatched(self->tool, vcpu, 0, new);
	write_unwatched(self->tool, vcpu, 0, old);

	/* Now both. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_CR, 1), 0);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 0, old, new, new), 0);

	/* The VMM has the last word, and it can change its mind. */
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_CR, 0);
	write_unwatched(self->tool, vcpu, 0, old);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_CR, 1), -KVM_EPERM);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_CR, 1);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 0, old, new, new), 0);
	kvmi_stop(&runner);
}

/* Writes that change nothing, or that KVM does not accept. */
TEST_F(kvmi_cr, not_sent)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 cr0, cr3, cr4;
	int i;

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++)
		select_cr(self->tool, 0, crs[i]);
	cr0 = read_cr(vcpu, 0);
	cr3 = read_cr(vcpu, 3);
	cr4 = read_cr(vcpu, 4);

	for (i = 0; i < ARRAY_SIZE(crs); i++)
		write_unwatched(self->tool, vcpu, crs[i], read_cr(vcpu, crs[i]));

	/* ET is always set, and reserved bits are ignored. */
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 0, cr0 & ~X86_CR0_ET), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 0, cr0 | BIT(6)), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 0, cr0 | BIT(28)), 0);

	/* These are refused. */
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 0, cr0 | X86_CR0_NW), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 0, cr0 & ~X86_CR0_PE), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 0, cr0 & ~X86_CR0_PG), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 0, cr0 | BIT_ULL(40)), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 3, cr3 | BIT_ULL(63)), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 4, cr4 & ~X86_CR4_PAE), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 4, cr4 | BIT_ULL(31)), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 4, cr4 | BIT_ULL(40)), GP_VECTOR);

	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), cr0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), cr3);
	TEST_ASSERT_EQ(read_cr(vcpu, 4), cr4);
	kvmi_stop(&runner);
}

/* ET and reserved bits do not show in the event either. */
TEST_F(kvmi_cr, cr0_bits_dropped)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 old, new;

	start_agent(&runner, vcpu);
	select_cr(self->tool, 0, 0);
	old = read_cr(vcpu, 0);
	new = old ^ X86_CR0_WP;

	kvmi_call_begin(vcpu, guest_write_cr, 0, (new & ~X86_CR0_ET) | BIT(6));
	expect_cr(self->tool, 0, 0, old, new, &ev);
	kvmi_reply_value(self->tool, &ev, new);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), new);
	kvmi_stop(&runner);
}

/* What the tool says is written. */
TEST_F(kvmi_cr, new_val)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 old, new;
	u32 half;
	int i;

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		select_cr(self->tool, 0, crs[i]);
		old = read_cr(vcpu, crs[i]);
		new = old ^ harmless_bit(crs[i]);

		/* As it was: the guest does not notice. */
		TEST_ASSERT_EQ(write_watched(self->tool, vcpu, crs[i], old, new, old), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), old);
		TEST_ASSERT_EQ(write_watched(self->tool, vcpu, crs[i], old, new, old), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), old);
		TEST_ASSERT_EQ(write_watched(self->tool, vcpu, crs[i], old, new, new), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), new);
	}

	/* Something else. */
	old = read_cr(vcpu, 0);
	new = old ^ X86_CR0_WP;
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 0, old, new, old ^ X86_CR0_AM), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), old ^ X86_CR0_AM);

	/* Not all of the data: the rest is zero. */
	old ^= X86_CR0_AM;
	half = new;
	kvmi_call_begin(vcpu, guest_write_cr, 0, old ^ X86_CR0_MP);
	expect_cr(self->tool, 0, 0, old, old ^ X86_CR0_MP, &ev);
	kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, &half, sizeof(half));
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), new);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* It is checked as a write of the guest. */
TEST_F(kvmi_cr, illegal_new_val)
{
	static const struct {
		int cr;
		u64 set, clear;
	} cases[] = {
		{ 0, X86_CR0_NW, 0 },
		{ 0, 0, X86_CR0_PE },
		{ 0, 0, X86_CR0_PG },
		{ 0, BIT_ULL(32), 0 },
		{ 0, 0, ~0ull },
		{ 3, BIT_ULL(62), 0 },
		{ 3, ~0xfffull, 0 },
		{ 4, BIT_ULL(31), 0 },
		{ 4, BIT_ULL(63), 0 },
		{ 4, 0, X86_CR4_PAE },
		{ 4, 0, ~0ull },
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 old, new;
	int i;

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++)
		select_cr(self->tool, 0, crs[i]);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		old = read_cr(vcpu, cases[i].cr);
		new = old ^ harmless_bit(cases[i].cr);
		TEST_ASSERT(write_watched(self->tool, vcpu, cases[i].cr, old, new,
					  (new | cases[i].set) & ~cases[i].clear) == GP_VECTOR,
			    "No #GP in case %d", i);
		TEST_ASSERT_EQ(read_cr(vcpu, cases[i].cr), old);
	}

	/* No value is zero. */
	old = read_cr(vcpu, 0);
	new = old ^ X86_CR0_WP;
	kvmi_call_begin(vcpu, guest_write_cr, 0, new);
	expect_cr(self->tool, 0, 0, old, new, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), GP_VECTOR);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), old);

	/* All is well after that. */
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 0, old, new, new), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), new);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* The bit has an effect, and has none if the tool does not let the guest set it. */
TEST_F(kvmi_cr, fsgsbase)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 old, new;

	if (!vcpu_cpuid_has(vcpu, X86_FEATURE_FSGSBASE))
		SKIP(return, "This processor has no FSGSBASE");

	start_agent(&runner, vcpu);
	old = read_cr(vcpu, 4);
	new = old | X86_CR4_FSGSBASE;
	select_cr(self->tool, 0, 4);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 4, old, new, old), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_rdfsbase, 0, 0), UD_VECTOR);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 4, old, new, new), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_rdfsbase, 0, 0), 0);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 4, new, old, new), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_rdfsbase, 0, 0), 0);

	/* Given back to the guest. */
	TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, 4, 0), 0);
	write_unwatched(self->tool, vcpu, 4, old);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_rdfsbase, 0, 0), UD_VECTOR);
	kvmi_stop(&runner);
}

/* The page tables are those that the tool has chosen. */
TEST_F(kvmi_cr, cr3_root)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 old, other;
	gpa_t gpa;
	gva_t far;

	far = kvmi_map_far(self->vm, &gpa);
	other = kvmi_root_without(self->vm, far);
	start_agent(&runner, vcpu);
	select_cr(self->tool, 0, 3);
	old = read_cr(vcpu, 3);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_read, far, 0), 0);

	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 3, old, old ^ CR3_PWT, other), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), other);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_read, far, 0), PF_VECTOR);

	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 3, other, other ^ CR3_PWT, old), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), old);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_read, far, 0), 0);

	/* The guest as well, watched and unwatched. */
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 3, old, other, other), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_read, far, 0), PF_VECTOR);
	TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, 3, 0), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), other);
	write_unwatched(self->tool, vcpu, 3, old);
	TEST_ASSERT_EQ(kvmi_call(vcpu, kvmi_guest_read, far, 0), 0);
	kvmi_stop(&runner);
}

/* The PCID is a part of CR3, the wish not to flush is not. */
TEST_F(kvmi_cr, pcid)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	u64 noflush = BIT_ULL(63);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 cr3;

	if (!vcpu_cpuid_has(vcpu, X86_FEATURE_PCID))
		SKIP(return, "KVM gives no PCID to guests on this host");

	start_agent(&runner, vcpu);
	cr3 = read_cr(vcpu, 3);
	write_unwatched(self->tool, vcpu, 4, read_cr(vcpu, 4) | X86_CR4_PCIDE);
	select_cr(self->tool, 0, 3);

	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_cr, 3, cr3 | noflush), 0);
	kvmi_expect_quiet(self->tool);

	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 3, cr3, cr3 | 1, cr3 | 1), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), cr3 | 1);
	kvmi_call_begin(vcpu, guest_write_cr, 3, cr3 | 2 | noflush);
	expect_cr(self->tool, 0, 3, cr3 | 1, cr3 | 2, &ev);
	kvmi_reply_value(self->tool, &ev, cr3 | 2);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), cr3 | 2);

	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 3, cr3 | 2, cr3 | 3, cr3 | 2), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), cr3 | 2);
	kvmi_stop(&runner);
}

/* LMSW writes a part of CR0. */
TEST_F(kvmi_cr, lmsw)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 old, new;

	start_agent(&runner, vcpu);
	select_cr(self->tool, 0, 0);
	old = read_cr(vcpu, 0);
	new = old ^ X86_CR0_MP;

	kvmi_call_begin(vcpu, guest_lmsw, new & 0xf, 0);
	expect_cr(self->tool, 0, 0, old, new, &ev);
	kvmi_reply_value(self->tool, &ev, old);
	kvmi_call_end(vcpu);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), old);

	kvmi_call_begin(vcpu, guest_lmsw, new & 0xf, 0);
	expect_cr(self->tool, 0, 0, old, new, &ev);
	kvmi_interrupt(&runner);
	kvmi_reply_value(self->tool, &ev, new);
	kvmi_call_end(vcpu);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), new);
	kvmi_stop(&runner);
}

/* KVM's emulator executes the instruction. */
TEST_F(kvmi_cr, emulator)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 old, new;
	int i;

	if (!is_forced_emulation_enabled)
		SKIP(return, "The parameter kvm.force_emulation_prefix is off");

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		select_cr(self->tool, 0, crs[i]);
		old = read_cr(vcpu, crs[i]);
		new = old ^ harmless_bit(crs[i]);

		TEST_ASSERT_EQ(kvmi_call(vcpu, guest_emulate_write_cr, crs[i], old), 0);
		kvmi_expect_quiet(self->tool);

		kvmi_call_begin(vcpu, guest_emulate_write_cr, crs[i], new);
		expect_cr(self->tool, 0, crs[i], old, new, &ev);
		kvmi_reply_value(self->tool, &ev, old);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), old);

		kvmi_call_begin(vcpu, guest_emulate_write_cr, crs[i], new);
		expect_cr(self->tool, 0, crs[i], old, new, &ev);
		kvmi_reply_value(self->tool, &ev, new);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), new);

		/* Interrupted: no second event, and the verdict is not lost. */
		kvmi_call_begin(vcpu, guest_emulate_write_cr, crs[i], old);
		expect_cr(self->tool, 0, crs[i], new, old, &ev);
		kvmi_interrupt(&runner);
		kvmi_expect_quiet(self->tool);
		kvmi_reply_value(self->tool, &ev, old);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		kvmi_expect_quiet(self->tool);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), old);
	}

	kvmi_call_begin(vcpu, guest_emulate_write_cr, 4, old ^ X86_CR4_TSD);
	expect_cr(self->tool, 0, 4, old, old ^ X86_CR4_TSD, &ev);
	kvmi_reply_value(self->tool, &ev, BIT_ULL(63));
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), GP_VECTOR);
	TEST_ASSERT_EQ(read_cr(vcpu, 4), old);
	kvmi_stop(&runner);
}

/*
 * RSM restores the control registers. Whether it raises events or not, the guest
 * gets back what it had.
 */
TEST_F(kvmi_cr, smm)
{
	static const u8 rsm[] = { 0x0f, 0xaa };
	const struct kvmi_vcpu_event_cr *payload;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 before[3], new;
	struct kvmi_ev ev;
	int i, round;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "This kernel has no system management mode");

	setup_smram(self->vm, vcpu, 0x1000000, rsm, sizeof(rsm));
	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		select_cr(self->tool, 0, crs[i]);
		before[i] = read_cr(vcpu, crs[i]);
	}

	for (round = 0; round < 3; round++) {
		kvmi_stop(&runner);
		inject_smi(vcpu);
		kvmi_start(&runner, vcpu);
		kvmi_call_begin(vcpu, guest_read_cr, 0, 0);
		while (!kvmi_call_is_done(vcpu)) {
			if (!kvmi_readable(self->tool, 10))
				continue;
			TEST_ASSERT(kvmi_next_event(self->tool, &ev), "Closed");
			TEST_ASSERT_EQ(ev.event.event, KVMI_VCPU_EVENT_CR);
			payload = (void *)ev.payload;
			kvmi_reply_value(self->tool, &ev, payload->new_value);
		}
		kvmi_expect_quiet(self->tool);
		for (i = 0; i < ARRAY_SIZE(crs); i++)
			TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), before[i]);
	}

	/* The selection is what it was. */
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		new = before[i] ^ harmless_bit(crs[i]);
		TEST_ASSERT_EQ(write_watched(self->tool, vcpu, crs[i], before[i], new, new), 0);
	}
	kvmi_stop(&runner);
}

/* Replies that this event does not have: the guest's own value is written. */
TEST_F(kvmi_cr, bad_reply)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	u8 data[16] = {};
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 old, new;
	int bad;

	start_agent(&runner, vcpu);
	for (bad = 0; bad < 4; bad++) {
		select_cr(self->tool, 0, 0);
		old = read_cr(vcpu, 0);
		new = old ^ X86_CR0_WP;
		memcpy(data, &old, sizeof(old));

		kvmi_call_begin(vcpu, guest_write_cr, 0, new);
		expect_cr(self->tool, 0, 0, old, new, &ev);
		switch (bad) {
		case 0:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_RETRY, data, 8);
			break;
		case 1:
			kvmi_reply_data(self->tool, &ev, 3, data, 8);
			break;
		case 2:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, data, 9);
			break;
		case 3:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, data, 16);
			break;
		}
		kvmi_expect_closed(self->tool);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, 0), new);
		write_unwatched(NULL, vcpu, 0, old);
		self->tool = kvmi_rehook(self->tool);
	}
	kvmi_stop(&runner);
}

TEST_F(kvmi_cr, crash)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u64 old, new;

	start_agent(&runner, vcpu);
	select_cr(self->tool, 0, 0);
	old = read_cr(vcpu, 0);
	new = old ^ X86_CR0_WP;
	kvmi_call_begin(vcpu, guest_write_cr, 0, new);
	expect_cr(self->tool, 0, 0, old, new, &ev);
	kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CRASH, &new, sizeof(new));
	kvmi_expect_crash(&runner);

	/* It has not happened. */
	vcpu_regs_get(vcpu, &regs);
	vcpu_sregs_get(vcpu, &sregs);
	TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
	TEST_ASSERT_EQ(sregs.cr0, old);

	/* A VMM that goes on nevertheless has it executed again. */
	kvmi_start(&runner, vcpu);
	expect_cr(self->tool, 0, 0, old, new, &ev);
	kvmi_reply_value(self->tool, &ev, new);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), new);
	kvmi_stop(&runner);
}

/* Registers and the value, both from the tool; also after an interruption. */
TEST_F(kvmi_cr, set_registers)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u64 old, new;
	int i;

	start_agent(&runner, vcpu);
	select_cr(self->tool, 0, 0);
	for (i = 0; i < 3; i++) {
		old = read_cr(vcpu, 0);
		new = old ^ X86_CR0_WP;
		kvmi_call_begin(vcpu, guest_write_cr0_rbx, new, 0x1111);
		expect_cr(self->tool, 0, 0, old, new, &ev);
		regs = ev.common.arch.regs;
		TEST_ASSERT_EQ(regs.rbx, 0x1111);
		regs.rbx = 0x2222 + i;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		if (i)
			kvmi_interrupt(&runner);
		kvmi_reply_value(self->tool, &ev, i == 2 ? old : new);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0x2222 + i);
		TEST_ASSERT_EQ(read_cr(vcpu, 0), i == 2 ? old : new);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

/* A signal ends the waiting: nothing has happened then, and nothing is lost. */
TEST_F(kvmi_cr, interrupted)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u64 old, new;
	u32 seq;
	int i;

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		select_cr(self->tool, 0, crs[i]);
		old = read_cr(vcpu, crs[i]);
		new = old ^ harmless_bit(crs[i]);

		/* The reply comes while the vCPU is in KVM_RUN again. */
		kvmi_call_begin(vcpu, guest_write_cr, crs[i], new);
		expect_cr(self->tool, 0, crs[i], old, new, &ev);
		kvmi_interrupt(&runner);
		kvmi_interrupt(&runner);
		kvmi_expect_quiet(self->tool);
		kvmi_reply_value(self->tool, &ev, new);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), new);
		kvmi_expect_quiet(self->tool);

		/* It comes while the vCPU is out. */
		kvmi_call_begin(vcpu, guest_write_cr, crs[i], old);
		expect_cr(self->tool, 0, crs[i], new, old, &ev);
		seq = ev.hdr.seq;
		kvmi_stop(&runner);
		vcpu_regs_get(vcpu, &regs);
		vcpu_sregs_get(vcpu, &sregs);
		TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
		TEST_ASSERT_EQ(crs[i] == 0 ? sregs.cr0 : crs[i] == 3 ? sregs.cr3 : sregs.cr4,
			       new);
		kvmi_reply_value(self->tool, &ev, new);
		kvmi_check_version(self->tool);
		kvmi_start(&runner, vcpu);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), new);

		/* The next event is the next write. */
		kvmi_call_begin(vcpu, guest_write_cr, crs[i], old);
		expect_cr(self->tool, 0, crs[i], new, old, &ev);
		TEST_ASSERT_EQ(ev.hdr.seq, seq + 1);

		/* A bad value is as bad then. */
		kvmi_interrupt(&runner);
		kvmi_reply_value(self->tool, &ev, ~0ull);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), GP_VECTOR);
		TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), new);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

/* The VMM changes the vCPU meanwhile: the reply was for another write. */
TEST_F(kvmi_cr, reply_is_dropped)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u64 old, new, other;

	start_agent(&runner, vcpu);
	select_cr(self->tool, 0, 0);
	old = read_cr(vcpu, 0);
	new = old ^ X86_CR0_WP;
	other = old ^ X86_CR0_AM;

	kvmi_call_begin(vcpu, guest_write_cr, 0, new);
	expect_cr(self->tool, 0, 0, old, new, &ev);
	kvmi_stop(&runner);
	kvmi_reply_value(self->tool, &ev, old);
	kvmi_check_version(self->tool);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT_EQ(regs.rax, new);
	regs.rax = other;
	vcpu_regs_set(vcpu, &regs);
	kvmi_start(&runner, vcpu);
	expect_cr(self->tool, 0, 0, old, other, &ev);
	kvmi_reply_value(self->tool, &ev, other);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), other);
	kvmi_stop(&runner);
}

/* What the VMM writes raises no event, but is the old value of the next one. */
TEST_F(kvmi_cr, set_sregs)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	int i;

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++)
		select_cr(self->tool, 0, crs[i]);
	kvmi_stop(&runner);

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr0 ^= X86_CR0_WP;
	sregs.cr3 ^= CR3_PWT;
	sregs.cr4 ^= X86_CR4_TSD;
	vcpu_sregs_set(vcpu, &sregs);
	kvmi_start(&runner, vcpu);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), sregs.cr0);
	TEST_ASSERT_EQ(read_cr(vcpu, 3), sregs.cr3);
	TEST_ASSERT_EQ(read_cr(vcpu, 4), sregs.cr4);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, 0, sregs.cr0, sregs.cr0 ^ X86_CR0_WP,
				     sregs.cr0), 0);
	TEST_ASSERT_EQ(read_cr(vcpu, 0), sregs.cr0);
	kvmi_stop(&runner);
}

/* Each vCPU has a selection of its own, and both can wait at once. */
TEST_F(kvmi_cr, two_vcpus)
{
	struct kvmi_runner runner[2];
	u64 cr0[2], cr4[2];
	struct kvmi_ev ev[2], first;
	int i, round;

	for (i = 0; i < 2; i++) {
		start_agent(&runner[i], self->vcpu[i]);
		cr0[i] = read_cr(self->vcpu[i], 0);
		cr4[i] = read_cr(self->vcpu[i], 4);
	}

	/* Only the first vCPU at first. */
	select_cr(self->tool, 0, 0);
	write_unwatched(self->tool, self->vcpu[1], 0, cr0[1] ^ X86_CR0_WP);
	write_unwatched(self->tool, self->vcpu[1], 0, cr0[1]);

	select_cr(self->tool, 1, 4);
	write_unwatched(self->tool, self->vcpu[0], 4, cr4[0] ^ X86_CR4_TSD);
	write_unwatched(self->tool, self->vcpu[0], 4, cr4[0]);
	write_unwatched(self->tool, self->vcpu[1], 0, cr0[1] ^ X86_CR0_WP);
	write_unwatched(self->tool, self->vcpu[1], 0, cr0[1]);

	for (round = 0; round < 6; round++) {
		kvmi_call_begin(self->vcpu[0], guest_write_cr, 0, cr0[0] ^ X86_CR0_WP);
		kvmi_call_begin(self->vcpu[1], guest_write_cr, 4, cr4[1] ^ X86_CR4_TSD);
		for (i = 0; i < 2; i++) {
			TEST_ASSERT(kvmi_next_event(self->tool, &first), "Closed");
			TEST_ASSERT_EQ(first.event.event, KVMI_VCPU_EVENT_CR);
			TEST_ASSERT(first.common.vcpu < 2, "vCPU %u", first.common.vcpu);
			ev[first.common.vcpu] = first;
		}
		check_cr_event(&ev[0], 0, cr0[0], cr0[0] ^ X86_CR0_WP);
		check_cr_event(&ev[1], 4, cr4[1], cr4[1] ^ X86_CR4_TSD);
		kvmi_expect_quiet(self->tool);

		/* The replies come in either order; one vCPU gets what it wants. */
		i = round & 1;
		kvmi_reply_value(self->tool, &ev[i], i ? cr4[1] : cr0[0]);
		TEST_ASSERT_EQ(kvmi_call_end(self->vcpu[i]), 0);
		TEST_ASSERT(!kvmi_call_is_done(self->vcpu[!i]), "It did not wait");
		if (i) {
			cr0[0] ^= X86_CR0_WP;
			kvmi_reply_value(self->tool, &ev[0], cr0[0]);
		} else {
			cr4[1] ^= X86_CR4_TSD;
			kvmi_reply_value(self->tool, &ev[1], cr4[1]);
		}
		TEST_ASSERT_EQ(kvmi_call_end(self->vcpu[!i]), 0);
		TEST_ASSERT_EQ(read_cr(self->vcpu[0], 0), cr0[0]);
		TEST_ASSERT_EQ(read_cr(self->vcpu[1], 4), cr4[1]);
	}
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

/* The connection ends while the vCPU waits: the guest's own value is written. */
TEST_F(kvmi_cr, lost_while_waiting)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 old, new;
	int i, closed;

	start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		for (closed = 0; closed < 2; closed++) {
			select_cr(self->tool, 0, crs[i]);
			old = read_cr(vcpu, crs[i]);
			new = old ^ harmless_bit(crs[i]);
			kvmi_call_begin(vcpu, guest_write_cr, crs[i], new);
			expect_cr(self->tool, 0, crs[i], old, new, &ev);
			if (closed)
				kvmi_close(self->tool);
			else
				kvmi_unhook(self->vm);
			TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
			TEST_ASSERT_EQ(read_cr(vcpu, crs[i]), new);
			write_unwatched(NULL, vcpu, crs[i], old);
			self->tool = kvmi_rehook(self->tool);

			/* Nothing is selected in the new connection. */
			TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_CR, 1),
				       0);
			write_unwatched(self->tool, vcpu, crs[i], new);
		}
	}
	kvmi_stop(&runner);
}

/* The interception ends with whatever has asked for it. */
TEST_F(kvmi_cr, interception_ends)
{
	enum { DISABLE, CLOSE, UNHOOK, NR };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 bit, without;
	int i, how;

	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		bit = harmless_bit(crs[i]);
		without = kvmi_count_exits(vcpu, guest_toggle, crs[i], bit);

		for (how = 0; how < NR; how++) {
			start_agent(&runner, vcpu);
			select_cr(self->tool, 0, crs[i]);
			if (how == DISABLE) {
				TEST_ASSERT_EQ(kvmi_control_cr(self->tool, 0, crs[i], 0), 0);
				TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0,
								  KVMI_VCPU_EVENT_CR, 0), 0);
			}
			kvmi_stop(&runner);
			if (how == CLOSE)
				kvmi_close(self->tool);
			if (how == UNHOOK)
				kvmi_unhook(self->vm);
			kvmi_expect_few_exits(vcpu, guest_toggle, crs[i], bit,
					      without + WRITES / 2);
			self->tool = kvmi_rehook(self->tool);
		}
	}
}

/* Unless the tool wants it to stay: it is no harm to the guest. */
TEST_F(kvmi_cr, interception_stays)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 bit, without;
	int i;

	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		bit = harmless_bit(crs[i]);
		without = kvmi_count_exits(vcpu, guest_toggle, crs[i], bit);

		TEST_ASSERT_EQ(kvmi_control_cleanup(self->tool, 0), 0);
		start_agent(&runner, vcpu);
		select_cr(self->tool, 0, crs[i]);
		kvmi_unhook(self->vm);
		TEST_ASSERT_EQ(kvmi_call(vcpu, guest_toggle, crs[i], bit), 0);
		kvmi_stop(&runner);
		TEST_ASSERT(kvmi_count_exits(vcpu, guest_toggle, crs[i], bit) >= WRITES,
			    "CR%d is not intercepted any more", crs[i]);

		/* A later connection ends it. */
		self->tool = kvmi_rehook(self->tool);
		kvmi_unhook(self->vm);
		kvmi_expect_few_exits(vcpu, guest_toggle, crs[i], bit, without + WRITES / 2);
		self->tool = kvmi_rehook(self->tool);
	}
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
