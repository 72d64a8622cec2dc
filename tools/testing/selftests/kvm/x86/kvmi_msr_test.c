// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VCPU_CONTROL_MSR and KVMI_VCPU_EVENT_MSR.
 */
#include <sys/ioctl.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

/* Writes of the guest, to see how many of them are intercepted. */
#define WRITES			400

/* No processor has it. */
#define MSR_NONEXISTENT		0xc0001ffe

KVMI_TEST_SUITE(kvmi_msr, 2);

/* What the guest can do. These return the exception that they got, or 0. */
static u64 guest_wrmsr(u64 msr, u64 value)
{
	return kvmi_guest_try("wrmsr", "a"((u32)value), "d"(value >> 32), "c"((u32)msr));
}

/* The same by KVM's emulator. */
static u64 guest_emulate_wrmsr(u64 msr, u64 value)
{
	return kvmi_guest_try_fep("wrmsr", "a"((u32)value), "d"(value >> 32), "c"((u32)msr));
}

static u64 guest_rdmsr(u64 msr, u64 unused)
{
	return rdmsr(msr);
}

static u64 guest_has_msr(u64 msr, u64 unused)
{
	u64 value;

	return !rdmsr_safe(msr, &value);
}

/* Returns what is in rbx after the write. */
static u64 guest_wrmsr_rbx(u64 value, u64 rbx)
{
	asm volatile("wrmsr" : "+b"(rbx)
		     : "a"((u32)value), "d"(value >> 32), "c"(MSR_LSTAR) : "memory");
	return rbx;
}

static u64 guest_write_often(u64 msr, u64 value)
{
	int i;

	for (i = 1; i <= WRITES; i++) {
		wrmsr(msr, value + i);
		if (rdmsr(msr) != value + i)
			return 1;
	}

	return 0;
}

static u64 read_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	return kvmi_call(vcpu, guest_rdmsr, msr, 0);
}

static void select_msr(struct kvmi_tool *tool, u16 vcpu, u32 msr)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, vcpu, KVMI_VCPU_EVENT_MSR, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(tool, vcpu, msr, 1), 0);
}

static void check_msr_event(const struct kvmi_ev *ev, u32 msr, u64 old, u64 new)
{
	const struct kvmi_vcpu_event_msr *payload = (void *)ev->payload;

	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT_EQ(payload->msr, msr);
	TEST_ASSERT_EQ(payload->padding, 0);
	TEST_ASSERT_EQ(payload->old_value, old);
	TEST_ASSERT_EQ(payload->new_value, new);
	TEST_ASSERT_EQ((u32)ev->common.arch.regs.rcx, msr);

	/* It has not happened yet. */
	if (msr == MSR_LSTAR)
		TEST_ASSERT_EQ(ev->common.arch.msrs.lstar, old);
	if (msr == MSR_EFER)
		TEST_ASSERT_EQ(ev->common.arch.msrs.efer, old);
}

static void expect_msr(struct kvmi_tool *tool, u16 vcpu, u32 msr, u64 old, u64 new,
		       struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_MSR, ev);
	check_msr_event(ev, msr, old, new);
}

/* The guest writes @new, the tool wants @verdict: returns what the guest gets. */
static u64 write_watched(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u32 msr,
			 u64 old, u64 new, u64 verdict)
{
	struct kvmi_ev ev;

	kvmi_call_begin(vcpu, guest_wrmsr, msr, new);
	expect_msr(tool, vcpu->id, msr, old, new, &ev);
	TEST_ASSERT(!kvmi_call_is_done(vcpu), "The guest did not wait");
	kvmi_reply_value(tool, &ev, verdict);

	return kvmi_call_end(vcpu);
}

/* A write that the tool does not hear of. */
static void write_unwatched(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u32 msr,
			    u64 value)
{
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_wrmsr, msr, value), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, msr), value);
	if (tool)
		kvmi_expect_quiet(tool);
}

TEST_F(kvmi_msr, control_errors)
{
	static const struct kvmi_vcpu_control_msr bad[] = {
		{ .msr = MSR_LSTAR, .enable = 2 },
		{ .msr = MSR_LSTAR, .enable = 0xff },
		{ .msr = MSR_LSTAR, .enable = 1, .padding1 = 1 },
		{ .msr = MSR_LSTAR, .enable = 0, .padding1 = 0x80 },
		{ .msr = MSR_LSTAR, .enable = 1, .padding2 = 1 },
		{ .msr = MSR_LSTAR, .enable = 1, .padding2 = 0x8000 },
		/* Not in one of the two ranges. */
		{ .msr = 0x2000, .enable = 1 },
		{ .msr = 0x2000, .enable = 0 },
		{ .msr = 0x40000000, .enable = 1 },
		{ .msr = MSR_KVM_WALL_CLOCK_NEW, .enable = 1 },
		{ .msr = 0xbfffffff, .enable = 1 },
		{ .msr = 0xc0002000, .enable = 1 },
		{ .msr = 0xc0010000, .enable = 1 },
		{ .msr = 0xffffffff, .enable = 1 },
		/* x2APIC. */
		{ .msr = 0x800, .enable = 1 },
		{ .msr = 0x800, .enable = 0 },
		{ .msr = 0x808, .enable = 1 },
		{ .msr = 0x830, .enable = 1 },
		{ .msr = 0x8ff, .enable = 1 },
	};
	static const u32 good[] = {
		0, 0x7ff, 0x900, 0x1fff, 0xc0000000, 0xc0001fff, MSR_LSTAR, MSR_IA32_TSC,
	};
	struct kvmi_vcpu_control_msr req = { .msr = MSR_LSTAR, .enable = 1 };
	struct kvmi_runner runner;
	int i;

	kvmi_start_agent(&runner, self->vcpu[0]);
	kvmi_expect_errors(self->tool, KVMI_VCPU_CONTROL_MSR, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EINVAL);
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_CONTROL_MSR);

	/* No error has had an effect. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
	write_unwatched(self->tool, self->vcpu[0], MSR_LSTAR, 0x1111);

	/* Twice the same is fine, and so is what was never on. */
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, good[i], 0), 0);
		TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, good[i], 1), 0);
		TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, good[i], 1), 0);
		TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, good[i], 0), 0);
		TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, good[i], 0), 0);
	}

	/* What is missing is zero: a part of the index, or all of it. */
	for (i = 0; i <= sizeof(req); i++)
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_CONTROL_MSR, 0, &req, i,
					     NULL, 0), 0);
	TEST_ASSERT_EQ(write_watched(self->tool, self->vcpu[0], MSR_LSTAR, 0x1111, 0x2222,
				     0x2222), 0);
	kvmi_stop(&runner);
}

/* MSRs of each kind: low and high, always intercepted and passed through. */
static const struct {
	u32 msr;
	u64 values[2];
} cases[] = {
	{ MSR_IA32_SYSENTER_CS, { 0x10, 0x20 } },
	{ MSR_IA32_SYSENTER_EIP, { 0x123456, 0x234567 } },
	{ MSR_IA32_CR_PAT, { 0x0007040600070406, 0x0606060606060606 } },
	{ MSR_STAR, { 0x0023001000000000, 0x0033002000000000 } },
	{ MSR_LSTAR, { 0x111111111000, 0xffff800000001000 } },
	{ MSR_CSTAR, { 0x222222222000, 0xffff800000002000 } },
	{ MSR_SYSCALL_MASK, { 0x200, 0x500 } },
	{ MSR_FS_BASE, { 0x333333333000, 0xffff800000003000 } },
	{ MSR_KERNEL_GS_BASE, { 0x444444444000, 0xffff800000004000 } },
};

TEST_F(kvmi_msr, event)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	const u64 *values;
	int i, round;
	u32 msr;

	kvmi_start_agent(&runner, vcpu);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		msr = cases[i].msr;
		values = cases[i].values;
		for (round = 0; round < 2; round++) {
			/* Off, on, off: and always what the guest has written last. */
			write_unwatched(self->tool, vcpu, msr, values[1]);
			write_unwatched(self->tool, vcpu, msr, values[0]);
			TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, msr, 1), 0);
			TEST_ASSERT_EQ(read_msr(vcpu, msr), values[0]);
			TEST_ASSERT_EQ(write_watched(self->tool, vcpu, msr, values[0],
						     values[1], values[1]), 0);
			TEST_ASSERT_EQ(read_msr(vcpu, msr), values[1]);

			/* Unchanged. */
			write_unwatched(self->tool, vcpu, msr, values[1]);

			/* The tool wants it as it was, or has another idea. */
			TEST_ASSERT_EQ(write_watched(self->tool, vcpu, msr, values[1],
						     values[0], values[1]), 0);
			TEST_ASSERT_EQ(read_msr(vcpu, msr), values[1]);
			TEST_ASSERT_EQ(write_watched(self->tool, vcpu, msr, values[1],
						     values[0] + 0x100, values[0]), 0);
			TEST_ASSERT_EQ(read_msr(vcpu, msr), values[0]);
			TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, msr, 0), 0);
			TEST_ASSERT_EQ(read_msr(vcpu, msr), values[0]);
		}
	}
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);
	kvmi_stop(&runner);
}

TEST_F(kvmi_msr, efer)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 old, new;

	kvmi_start_agent(&runner, vcpu);
	old = read_msr(vcpu, MSR_EFER);
	new = old ^ EFER_SCE;
	write_unwatched(self->tool, vcpu, MSR_EFER, new);
	write_unwatched(self->tool, vcpu, MSR_EFER, old);

	select_msr(self->tool, 0, MSR_EFER);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_EFER, old, new, old), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_EFER), old);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_EFER, old, new, new), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_EFER), new);

	/* LME cannot be cleared now, and there are bits that do not exist. */
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_EFER, new, old, old & ~EFER_LME),
		       GP_VECTOR);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_EFER, new, old, old | BIT_ULL(63)),
		       GP_VECTOR);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_EFER), new);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* One that exists for KVM alone, whatever the processor has. */
TEST_F(kvmi_msr, misc_features_enables)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	u32 msr = MSR_MISC_FEATURES_ENABLES;
	struct kvmi_runner runner;

	kvmi_start_agent(&runner, vcpu);
	if (!kvmi_call(vcpu, guest_has_msr, msr, 0)) {
		kvmi_stop(&runner);
		SKIP(return, "The vCPU does not have MSR 0x140");
	}

	select_msr(self->tool, 0, msr);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, msr, 0, 1, 0), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, msr), 0);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, msr, 0, 1, 1), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, msr), 1);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, msr, 1, 0, 2), GP_VECTOR);
	TEST_ASSERT_EQ(read_msr(vcpu, msr), 1);
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, msr, 0), 0);
	write_unwatched(self->tool, vcpu, msr, 0);
	kvmi_stop(&runner);
}

/* KVM has a fast path for this one. */
TEST_F(kvmi_msr, tsc_deadline)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	u32 msr = MSR_IA32_TSC_DEADLINE;
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 value;

	kvmi_start_agent(&runner, vcpu);
	if (!kvmi_call(vcpu, guest_has_msr, msr, 0)) {
		kvmi_stop(&runner);
		SKIP(return, "The vCPU does not have the TSC deadline MSR");
	}

	select_msr(self->tool, 0, msr);
	for (value = 1; value < 10; value++) {
		/* The timer is not in the mode in which this has an effect. */
		kvmi_call_begin(vcpu, guest_wrmsr, msr, value);
		expect_msr(self->tool, 0, msr, 0, value, &ev);
		kvmi_reply_value(self->tool, &ev, value);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	}
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, msr, 0), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_wrmsr, msr, value), 0);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Both the event and the MSR must be enabled, in any order. */
TEST_F(kvmi_msr, both_enabled)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;

	kvmi_start_agent(&runner, vcpu);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);

	/* The event alone; another MSR; the MSR alone. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x2000);
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, MSR_STAR, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, MSR_LSTAR & 0x1fff, 1), 0);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x3000);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 0), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, MSR_LSTAR, 1), 0);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x4000);

	/* Now both. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x4000, 0x5000, 0x5000), 0);

	/* The VMM has the last word, and it can change its mind. */
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_MSR, 0);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x6000);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 1), -KVM_EPERM);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_MSR, 1);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x6000, 0x7000, 0x7000), 0);
	kvmi_stop(&runner);
}

/* The event comes before KVM judges the value, which may be that of the tool. */
TEST_F(kvmi_msr, illegal_values)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u32 half = 0x3000;

	kvmi_start_agent(&runner, vcpu);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);
	select_msr(self->tool, 0, MSR_LSTAR);

	/* Of the guest, and the tool lets it pass, or mends it. */
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x1000, NONCANONICAL,
				     NONCANONICAL), GP_VECTOR);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x1000);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x1000, NONCANONICAL,
				     0x2000), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x2000);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x2000, NONCANONICAL,
				     0x2000), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x2000);

	/* Of the tool. */
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x2000, 0x3000,
				     NONCANONICAL), GP_VECTOR);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x2000);

	/* Not all of the data, or none: the rest is zero. */
	kvmi_call_begin(vcpu, guest_wrmsr, MSR_LSTAR, 0xffff800000001000);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x2000, 0xffff800000001000, &ev);
	kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, &half, sizeof(half));
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x3000);
	kvmi_call_begin(vcpu, guest_wrmsr, MSR_LSTAR, 0x4000);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x3000, 0x4000, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* There is nothing to compare with. */
TEST_F(kvmi_msr, unreadable)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;

	if (kvm_is_ignore_msrs())
		SKIP(return, "The parameter kvm.ignore_msrs is on: guests can read any MSR");

	kvmi_start_agent(&runner, vcpu);
	select_msr(self->tool, 0, MSR_NONEXISTENT);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_wrmsr, MSR_NONEXISTENT, 1), GP_VECTOR);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

static void filter_lstar_writes(struct kvm_vm *vm, bool deny)
{
	static u8 none;
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges[0] = {
			.flags = deny ? KVM_MSR_FILTER_WRITE : 0,
			.nmsrs = deny ? 1 : 0,
			.base = deny ? MSR_LSTAR : 0,
			.bitmap = deny ? &none : NULL,
		},
	};

	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

/* The VMM does not let the guest write the MSR: there is nothing to watch. */
TEST_F(kvmi_msr, filter)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;

	if (!kvm_has_cap(KVM_CAP_X86_MSR_FILTER))
		SKIP(return, "This kernel has no MSR filter");

	kvmi_start_agent(&runner, vcpu);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);
	filter_lstar_writes(self->vm, true);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_wrmsr, MSR_LSTAR, 0x2000), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, MSR_LSTAR, 1), -KVM_EPERM);
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, MSR_LSTAR, 0), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, MSR_STAR, 1), 0);

	/* It was not selected. */
	filter_lstar_writes(self->vm, false);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x2000);

	/* The filter comes when it is selected, and goes again. */
	TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, MSR_LSTAR, 1), 0);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x2000, 0x3000, 0x3000), 0);
	filter_lstar_writes(self->vm, true);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_wrmsr, MSR_LSTAR, 0x4000), GP_VECTOR);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x3000);
	filter_lstar_writes(self->vm, false);
	TEST_ASSERT_EQ(write_watched(self->tool, vcpu, MSR_LSTAR, 0x3000, 0x5000, 0x5000), 0);

	/* The filter outlives the tool, and the interception does not. */
	filter_lstar_writes(self->vm, true);
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_wrmsr, MSR_LSTAR, 0x6000), GP_VECTOR);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x5000);
	filter_lstar_writes(self->vm, false);
	write_unwatched(NULL, vcpu, MSR_LSTAR, 0x6000);
	kvmi_stop(&runner);
}

/* The VMM carries out the write: the tool is not asked. */
TEST_F(kvmi_msr, user_space_msr)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvm_run *run = vcpu->run;
	struct kvmi_runner runner;
	int i;

	if (!kvm_has_cap(KVM_CAP_X86_MSR_FILTER) || !kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR))
		SKIP(return, "This kernel does not let the VMM carry out WRMSR");

	vm_enable_cap(self->vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	kvmi_start_agent(&runner, vcpu);
	select_msr(self->tool, 0, MSR_LSTAR);
	filter_lstar_writes(self->vm, true);

	for (i = 0; i < 3; i++) {
		kvmi_call_begin(vcpu, guest_wrmsr, MSR_LSTAR, 0x1000 + i);
		kvmi_join(&runner);
		TEST_ASSERT_EQ(runner.exit_reason, KVM_EXIT_X86_WRMSR);
		TEST_ASSERT_EQ(run->msr.index, MSR_LSTAR);
		TEST_ASSERT_EQ(run->msr.data, 0x1000 + i);
		kvmi_expect_quiet(self->tool);
		run->msr.error = i == 2;
		kvmi_start(&runner, vcpu);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), i == 2 ? GP_VECTOR : 0);
	}
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

TEST_F(kvmi_msr, emulator)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	if (!is_forced_emulation_enabled)
		SKIP(return, "The parameter kvm.force_emulation_prefix is off");

	kvmi_start_agent(&runner, vcpu);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);
	select_msr(self->tool, 0, MSR_LSTAR);

	kvmi_call_begin(vcpu, guest_emulate_wrmsr, MSR_LSTAR, 0x2000);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x1000, 0x2000, &ev);
	kvmi_reply_value(self->tool, &ev, 0x3000);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x3000);

	/* Interrupted: no second event, and the verdict is not lost. */
	kvmi_call_begin(vcpu, guest_emulate_wrmsr, MSR_LSTAR, 0x4000);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x3000, 0x4000, &ev);
	kvmi_interrupt(&runner);
	kvmi_expect_quiet(self->tool);
	kvmi_reply_value(self->tool, &ev, 0x5000);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x5000);

	kvmi_call_begin(vcpu, guest_emulate_wrmsr, MSR_LSTAR, 0x6000);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x5000, 0x6000, &ev);
	kvmi_reply_value(self->tool, &ev, NONCANONICAL);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), GP_VECTOR);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x5000);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Replies that this event does not have: the guest's own value is written. */
TEST_F(kvmi_msr, bad_reply)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	static const u8 zero[16];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int bad;

	kvmi_start_agent(&runner, vcpu);
	for (bad = 0; bad < 4; bad++) {
		write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);
		select_msr(self->tool, 0, MSR_LSTAR);
		kvmi_call_begin(vcpu, guest_wrmsr, MSR_LSTAR, 0x2000);
		expect_msr(self->tool, 0, MSR_LSTAR, 0x1000, 0x2000, &ev);
		switch (bad) {
		case 0:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_RETRY, zero, 8);
			break;
		case 1:
			kvmi_reply_data(self->tool, &ev, 3, zero, 8);
			break;
		case 2:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, zero, 9);
			break;
		case 3:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, zero, 16);
			break;
		}
		kvmi_expect_closed(self->tool);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x2000);
		write_unwatched(NULL, vcpu, MSR_LSTAR, 0x3000);
		self->tool = kvmi_rehook(self->tool);
	}
	kvmi_stop(&runner);
}

TEST_F(kvmi_msr, crash)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 value = 0x2000;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	kvmi_start_agent(&runner, vcpu);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);
	select_msr(self->tool, 0, MSR_LSTAR);
	kvmi_call_begin(vcpu, guest_wrmsr, MSR_LSTAR, value);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x1000, value, &ev);
	kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CRASH, &value, sizeof(value));
	kvmi_expect_crash(&runner);

	/* It has not happened. */
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_LSTAR), 0x1000);

	/* A VMM that goes on nevertheless has it executed again. */
	kvmi_start(&runner, vcpu);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x1000, value, &ev);
	kvmi_reply_value(self->tool, &ev, value);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), value);
	kvmi_stop(&runner);
}

/* Registers and the value, both from the tool; also after an interruption. */
TEST_F(kvmi_msr, set_registers)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	int i;

	kvmi_start_agent(&runner, vcpu);
	select_msr(self->tool, 0, MSR_LSTAR);
	for (i = 0; i < 3; i++) {
		write_watched(self->tool, vcpu, MSR_LSTAR, read_msr(vcpu, MSR_LSTAR),
			      0x1000 + i, 0x1000 + i);
		kvmi_call_begin(vcpu, guest_wrmsr_rbx, 0x2000, 0x1111);
		expect_msr(self->tool, 0, MSR_LSTAR, 0x1000 + i, 0x2000, &ev);
		regs = ev.common.arch.regs;
		TEST_ASSERT_EQ(regs.rbx, 0x1111);
		regs.rbx = 0x2222 + i;
		/* What is written is what the reply says. */
		regs.rax = 0xbad;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		if (i)
			kvmi_interrupt(&runner);
		kvmi_reply_value(self->tool, &ev, 0x3000 + i);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0x2222 + i);
		TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x3000 + i);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

/* A signal ends the waiting: nothing has happened then, and nothing is lost. */
TEST_F(kvmi_msr, interrupted)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u32 seq;
	int i;

	kvmi_start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		u32 msr = cases[i].msr;
		const u64 *values = cases[i].values;

		write_unwatched(self->tool, vcpu, msr, values[0]);
		select_msr(self->tool, 0, msr);

		/* The reply comes while the vCPU is in KVM_RUN again. */
		kvmi_call_begin(vcpu, guest_wrmsr, msr, values[0] + 0x100);
		expect_msr(self->tool, 0, msr, values[0], values[0] + 0x100, &ev);
		kvmi_interrupt(&runner);
		kvmi_interrupt(&runner);
		kvmi_expect_quiet(self->tool);
		kvmi_reply_value(self->tool, &ev, values[1]);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_msr(vcpu, msr), values[1]);
		kvmi_expect_quiet(self->tool);

		/* It comes while the vCPU is out. */
		kvmi_call_begin(vcpu, guest_wrmsr, msr, values[0]);
		expect_msr(self->tool, 0, msr, values[1], values[0], &ev);
		seq = ev.hdr.seq;
		kvmi_stop(&runner);
		vcpu_regs_get(vcpu, &regs);
		TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
		TEST_ASSERT_EQ(vcpu_get_msr(vcpu, msr), values[1]);
		kvmi_reply_value(self->tool, &ev, values[1]);
		kvmi_check_version(self->tool);
		kvmi_start(&runner, vcpu);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_msr(vcpu, msr), values[1]);

		/* The next event is the next write. */
		kvmi_call_begin(vcpu, guest_wrmsr, msr, values[0]);
		expect_msr(self->tool, 0, msr, values[1], values[0], &ev);
		TEST_ASSERT_EQ(ev.hdr.seq, seq + 1);
		kvmi_reply_value(self->tool, &ev, values[0]);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_msr(vcpu, msr), values[0]);
		TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, msr, 0), 0);
	}

	/* A bad value is as bad then. */
	select_msr(self->tool, 0, MSR_LSTAR);
	kvmi_call_begin(vcpu, guest_wrmsr, MSR_LSTAR, 0x1000);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, &ev);
	kvmi_interrupt(&runner);
	kvmi_reply_value(self->tool, &ev, NONCANONICAL);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), GP_VECTOR);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* The VMM changes the vCPU meanwhile: the reply was for another write. */
TEST_F(kvmi_msr, reply_is_dropped)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	kvmi_start_agent(&runner, vcpu);
	write_unwatched(self->tool, vcpu, MSR_LSTAR, 0x1000);
	select_msr(self->tool, 0, MSR_LSTAR);
	kvmi_call_begin(vcpu, guest_wrmsr, MSR_LSTAR, 0x2000);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x1000, 0x2000, &ev);
	kvmi_stop(&runner);
	kvmi_reply_value(self->tool, &ev, 0x2000);
	kvmi_check_version(self->tool);
	vcpu_regs_get(vcpu, &regs);
	regs.rax = 0x3000;
	vcpu_regs_set(vcpu, &regs);
	kvmi_start(&runner, vcpu);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x1000, 0x3000, &ev);
	kvmi_stop(&runner);
	kvmi_reply_value(self->tool, &ev, 0x3000);
	kvmi_check_version(self->tool);

	/* Another old value; and writes of the VMM raise no event. */
	vcpu_set_msr(vcpu, MSR_LSTAR, 0x4000);
	kvmi_start(&runner, vcpu);
	expect_msr(self->tool, 0, MSR_LSTAR, 0x4000, 0x3000, &ev);
	kvmi_reply_value(self->tool, &ev, 0x4000);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(read_msr(vcpu, MSR_LSTAR), 0x4000);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Each vCPU has a selection of its own, and both can wait at once. */
TEST_F(kvmi_msr, two_vcpus)
{
	static const u32 msrs[] = { MSR_FS_BASE, MSR_LSTAR };
	struct kvmi_ev ev[2], first;
	struct kvmi_runner runner[2];
	int i, round;

	for (i = 0; i < 2; i++) {
		kvmi_start_agent(&runner[i], self->vcpu[i]);
		write_unwatched(self->tool, self->vcpu[i], msrs[i], 0);
	}

	/* Only the first vCPU at first. */
	select_msr(self->tool, 0, msrs[0]);
	write_unwatched(self->tool, self->vcpu[1], msrs[0], 0x1000);
	write_unwatched(self->tool, self->vcpu[1], msrs[0], 0x2000);
	select_msr(self->tool, 1, msrs[1]);
	write_unwatched(self->tool, self->vcpu[0], msrs[1], 0x1000);
	write_unwatched(self->tool, self->vcpu[1], msrs[0], 0x1000);

	for (round = 1; round < 7; round++) {
		for (i = 0; i < 2; i++)
			kvmi_call_begin(self->vcpu[i], guest_wrmsr, msrs[i], round);
		for (i = 0; i < 2; i++) {
			TEST_ASSERT(kvmi_next_event(self->tool, &first), "Closed");
			TEST_ASSERT_EQ(first.event.event, KVMI_VCPU_EVENT_MSR);
			TEST_ASSERT(first.common.vcpu < 2, "vCPU %u", first.common.vcpu);
			ev[first.common.vcpu] = first;
		}
		for (i = 0; i < 2; i++)
			check_msr_event(&ev[i], msrs[i], (round - 1) * (i ? 0x100 : 0x10), round);
		kvmi_expect_quiet(self->tool);

		/* The replies come in either order. */
		for (i = 0; i < 2; i++) {
			int n = i ^ (round & 1);

			kvmi_reply_value(self->tool, &ev[n], round * (n ? 0x100 : 0x10));
			TEST_ASSERT_EQ(kvmi_call_end(self->vcpu[n]), 0);
			if (!i)
				TEST_ASSERT(!kvmi_call_is_done(self->vcpu[!n]),
					    "vCPU %d did not wait", !n);
		}
		TEST_ASSERT_EQ(read_msr(self->vcpu[0], msrs[0]), round * 0x10);
		TEST_ASSERT_EQ(read_msr(self->vcpu[1], msrs[1]), round * 0x100);
	}
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

/* The connection ends while the vCPU waits: the guest's own value is written. */
TEST_F(kvmi_msr, lost_while_waiting)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int closed;

	kvmi_start_agent(&runner, vcpu);
	for (closed = 0; closed < 2; closed++) {
		write_unwatched(self->tool, vcpu, MSR_FS_BASE, 0x1000);
		select_msr(self->tool, 0, MSR_FS_BASE);
		kvmi_call_begin(vcpu, guest_wrmsr, MSR_FS_BASE, 0x2000);
		expect_msr(self->tool, 0, MSR_FS_BASE, 0x1000, 0x2000, &ev);
		if (closed)
			kvmi_close(self->tool);
		else
			kvmi_unhook(self->vm);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(read_msr(vcpu, MSR_FS_BASE), 0x2000);
		write_unwatched(NULL, vcpu, MSR_FS_BASE, 0x3000);
		self->tool = kvmi_rehook(self->tool);

		/* Nothing is selected in the new connection. */
		TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
		write_unwatched(self->tool, vcpu, MSR_FS_BASE, 0x4000);
	}
	kvmi_stop(&runner);
}

/* The interception ends with whatever has asked for it. */
TEST_F(kvmi_msr, interception_ends)
{
	enum { DISABLE, CLOSE, UNHOOK, NR };
	static const u32 msrs[] = { MSR_FS_BASE, MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 without;
	int i, how;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		without = kvmi_count_exits(vcpu, guest_write_often, msrs[i], 0);
		if (i == 0)
			TEST_ASSERT(without < WRITES, "%lu exits for %d writes of FS_BASE",
				    (unsigned long)without, WRITES);

		for (how = 0; how < NR; how++) {
			kvmi_start_agent(&runner, vcpu);
			select_msr(self->tool, 0, msrs[i]);
			if (how == DISABLE)
				TEST_ASSERT_EQ(kvmi_control_msr(self->tool, 0, msrs[i], 0), 0);
			kvmi_stop(&runner);
			if (how == CLOSE)
				kvmi_close(self->tool);
			if (how == UNHOOK)
				kvmi_unhook(self->vm);
			kvmi_expect_few_exits(vcpu, guest_write_often, msrs[i], 0,
					      without + WRITES / 2);
			self->tool = kvmi_rehook(self->tool);
		}
	}
}

/* Unless the tool wants it to stay: it is no harm to the guest. */
TEST_F(kvmi_msr, interception_stays)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 without;

	without = kvmi_count_exits(vcpu, guest_write_often, MSR_FS_BASE, 0);
	TEST_ASSERT_EQ(kvmi_control_cleanup(self->tool, 0), 0);
	kvmi_start_agent(&runner, vcpu);
	select_msr(self->tool, 0, MSR_FS_BASE);
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_write_often, MSR_FS_BASE, 0), 0);
	kvmi_stop(&runner);
	TEST_ASSERT(kvmi_count_exits(vcpu, guest_write_often, MSR_FS_BASE, 0) >= WRITES,
		    "FS_BASE is not intercepted any more");

	/* A later connection ends it. */
	self->tool = kvmi_rehook(self->tool);
	kvmi_unhook(self->vm);
	kvmi_expect_few_exits(vcpu, guest_write_often, MSR_FS_BASE, 0, without + WRITES / 2);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
