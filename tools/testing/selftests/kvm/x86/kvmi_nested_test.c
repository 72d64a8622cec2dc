// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: a guest that is a hypervisor. Its own guest (L2) raises no
 * events, and it (L1) sees no exit that it did not ask for.
 */
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "svm_util.h"
#include "test_util.h"
#include "vmx.h"

#define ROUNDS	3

KVMI_TEST_SUITE(kvmi_nested, 1);

/* Where the guest is: events are for the second. */
enum { ELSEWHERE, IN_L1, IN_L2 };
static u64 guest_where;

/* How often L2 has come to where it waits for the other one. */
static u64 guest_arrivals;
static u64 guest_go_on;

static void guest_set_where(u64 where)
{
	WRITE_ONCE(guest_where, where);
}

/* All that a tool can have intercepted, and that L1 does not want to see of L2. */
static void guest_do_all(u64 value)
{
	struct desc_ptr dt;

	set_cr0(get_cr0() ^ X86_CR0_WP);
	set_cr0(get_cr0() ^ X86_CR0_WP);
	set_cr4(get_cr4() ^ X86_CR4_TSD);
	set_cr4(get_cr4() ^ X86_CR4_TSD);
	wrmsr(MSR_LSTAR, value);
	wrmsr(MSR_IA32_SYSENTER_EIP, value);
	asm volatile("sgdt %0" : "=m"(dt));
}

/* Two writes to each of CR0 and CR4, two MSRs, a descriptor table. */
#define ALL_EVENTS	7

/* If this is set, breakpoints are what there is to see instead. */
static u64 guest_wants_int3;
static u64 guest_int3s;

static void guest_bp_handler(struct ex_regs *regs)
{
	guest_int3s++;
}

static void guest_act(u64 value)
{
	if (guest_wants_int3)
		asm volatile("int3");
	else
		guest_do_all(value);
}

static void l2_code(void)
{
	guest_set_where(IN_L2);
	WRITE_ONCE(guest_arrivals, guest_arrivals + 1);
	kvmi_guest_may_spin();
	while (READ_ONCE(guest_go_on) < guest_arrivals)
		;
	asm volatile("cli");
	guest_act(0x200000);
	kvmi_guest_hypercall();
}

static void l1_run_svm(struct svm_test_data *svm, int round)
{
	struct vmcb *vmcb = svm->vmcb;

	if (!round)
		generic_svm_setup(svm, l2_code);
	vmcb->save.rip = (u64)l2_code;
	vmcb->save.rsp = (u64)svm->stack;
	run_guest(vmcb, svm->vmcb_gpa);
	GUEST_ASSERT_EQ(vmcb->control.exit_code, SVM_EXIT_VMMCALL);
}

static void l1_run_vmx(struct vmx_pages *vmx, int round)
{
	if (!round) {
		GUEST_ASSERT(prepare_for_vmx_operation(vmx));
		GUEST_ASSERT(load_vmcs(vmx));
		prepare_vmcs(vmx, l2_code);
		/* Else all MSRs are L1's. */
		GUEST_ASSERT(!vmwrite(CPU_BASED_VM_EXEC_CONTROL,
				      vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
				      CPU_BASED_USE_MSR_BITMAPS));
	}
	GUEST_ASSERT(!vmwrite(GUEST_RIP, (u64)l2_code));
	GUEST_ASSERT(!vmwrite(GUEST_RSP, (u64)vmx->stack));
	GUEST_ASSERT_EQ(round ? vmresume() : vmlaunch(), 0);
	GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
}

static void l1_code(void *nested)
{
	int round;

	for (round = 0; round < ROUNDS; round++) {
		guest_set_where(IN_L1);
		guest_act(0x100000 + round);
		guest_set_where(ELSEWHERE);

		if (this_cpu_has(X86_FEATURE_SVM))
			l1_run_svm(nested, round);
		else
			l1_run_vmx(nested, round);
		guest_set_where(ELSEWHERE);
	}
	guest_set_where(IN_L1);
	guest_act(0x100000 + round);
	guest_set_where(ELSEWHERE);
	GUEST_DONE();
}

/* Why the tests cannot run here, those with breakpoints among them; or NULL */
static const char *nested_lacks(bool int3)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM) && !kvm_cpu_has(X86_FEATURE_VMX))
		return "KVM gives no virtualization to guests on this host";

	return int3 ? kvmi_int3_lacks(true) : NULL;
}

static u64 *guest_var(struct kvm_vm *vm, u64 *var)
{
	return addr_gva2hva(vm, (gva_t)var);
}

static void set_l1(struct kvm_vm *vm, struct kvm_vcpu *vcpu, bool int3)
{
	gva_t gva;

	*guest_var(vm, &guest_wants_int3) = int3;
	vm_install_exception_handler(vm, BP_VECTOR, guest_bp_handler);
	if (kvm_cpu_has(X86_FEATURE_SVM))
		vcpu_alloc_svm(vm, &gva);
	else
		vcpu_alloc_vmx(vm, &gva);
	vcpu_arch_set_entry_point(vcpu, l1_code);
	vcpu_args_set(vcpu, 1, gva);
}

static void want_all(struct kvmi_tool *tool, u8 enable)
{
	static const u16 events[] = {
		KVMI_VCPU_EVENT_CR, KVMI_VCPU_EVENT_MSR, KVMI_VCPU_EVENT_DESCRIPTOR,
		KVMI_VCPU_EVENT_XSETBV, KVMI_VCPU_EVENT_HYPERCALL,
		KVMI_VCPU_EVENT_BREAKPOINT,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		TEST_ASSERT_EQ(kvmi_control_event(tool, 0, events[i], enable), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 0, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 4, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(tool, 0, MSR_LSTAR, enable), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(tool, 0, MSR_IA32_SYSENTER_EIP, enable), 0);
}

/* Answer all events until L2 has arrived so often, or the guest is done: how many. */
static int watch(struct kvmi_tool *tool, struct kvmi_runner *runner, u64 arrivals)
{
	u64 *where = guest_var(tool->vm, &guest_where);
	u64 *arrived = guest_var(tool->vm, &guest_arrivals);
	struct kvmi_ev ev;
	int events = 0;

	for (;;) {
		while (list_empty(&tool->events) && !kvmi_readable(tool, 10)) {
			if (!READ_ONCE(runner->running) || READ_ONCE(*arrived) == arrivals)
				return events;
		}
		TEST_ASSERT(kvmi_next_event(tool, &ev), "Closed");
		TEST_ASSERT(READ_ONCE(*where) != IN_L2, "Event %u came from L2",
			    ev.event.event);
		events += READ_ONCE(*where) == IN_L1;
		kvmi_let_pass(tool, &ev);
	}
}

/* With so many events each time that L1 acts. */
static void test_events_are_for_l1(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
				   int events)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	*guest_var(tool->vm, &guest_go_on) = ROUNDS;
	kvmi_start_paused(tool, &runner, vcpu, &ev);
	want_all(tool, 1);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	TEST_ASSERT_EQ(watch(tool, &runner, ~0ull), (ROUNDS + 1) * events);
	kvmi_expect_done(&runner);
}

/* What is switched while L2 runs holds for L1 when it is back. */
static void test_switched_in_l2(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
				int events)
{
	u64 *go_on = guest_var(tool->vm, &guest_go_on);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 round;

	kvmi_start(&runner, vcpu);
	TEST_ASSERT_EQ(watch(tool, &runner, 1), 0);
	for (round = 1; round <= ROUNDS; round++) {
		TEST_ASSERT_EQ(kvmi_pause(tool, 0, 1), 0);
		kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
		want_all(tool, round & 1);
		*go_on = round;
		kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

		/* L1 does it all, and is back in L2 or done. */
		TEST_ASSERT_EQ(watch(tool, &runner, round + 1), round & 1 ? events : 0);
	}
	kvmi_expect_done(&runner);
}

/* L1 and L2 have all had their own #BP. */
static void check_int3s(struct kvm_vm *vm)
{
	TEST_ASSERT_EQ(*guest_var(vm, &guest_int3s), 2 * ROUNDS + 1);
}

TEST_F(kvmi_nested, events_are_for_l1)
{
	const char *lacks = nested_lacks(false);

	if (lacks)
		SKIP(return, "%s", lacks);

	set_l1(self->vm, self->vcpu[0], false);
	test_events_are_for_l1(self->tool, self->vcpu[0], ALL_EVENTS);
}

TEST_F(kvmi_nested, breakpoints_are_for_l1)
{
	const char *lacks = nested_lacks(true);

	if (lacks)
		SKIP(return, "%s", lacks);

	set_l1(self->vm, self->vcpu[0], true);
	test_events_are_for_l1(self->tool, self->vcpu[0], 1);
	check_int3s(self->vm);
}

TEST_F(kvmi_nested, switched_in_l2)
{
	const char *lacks = nested_lacks(false);

	if (lacks)
		SKIP(return, "%s", lacks);

	set_l1(self->vm, self->vcpu[0], false);
	test_switched_in_l2(self->tool, self->vcpu[0], ALL_EVENTS);
}

TEST_F(kvmi_nested, breakpoints_switched_in_l2)
{
	const char *lacks = nested_lacks(true);

	if (lacks)
		SKIP(return, "%s", lacks);

	set_l1(self->vm, self->vcpu[0], true);
	test_switched_in_l2(self->tool, self->vcpu[0], 1);
	check_int3s(self->vm);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
