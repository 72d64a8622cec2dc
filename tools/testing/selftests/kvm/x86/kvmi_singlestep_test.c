// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VCPU_CONTROL_SINGLESTEP and KVMI_VCPU_EVENT_SINGLESTEP.
 */
#include <sys/ioctl.h>

#include "apic.h"
#include "kvm_test_harness.h"
#include "kvmi_step.h"
#include "test_util.h"

#define UCALL_PORT	"0x1000"
#define UNMAPPED_GVA	0x7000000000
#define IRQ_VECTOR	0x40

KVMI_TEST_SUITE(kvmi_singlestep, 2);

static u64 guest_irqs;

static void guest_irq_handler(struct ex_regs *regs)
{
	WRITE_ONCE(guest_irqs, guest_irqs + 1);
	x2apic_write_reg(APIC_EOI, 0);
}

/* Code to step through. */
extern u64 straight_steps[], loop_steps[], branch_steps[],
	   cpuid_skipped_steps[], hypercall_steps[], tool_hypercall_steps[],
	   io_steps[], msr_steps[], control_registers_steps[], halt_steps[],
	   pushf_steps[], page_fault_steps[], undefined_steps[],
	   breakpoint_steps[], own_trap_steps[], spin_steps[];

asm(CODE("straight")
	S "nop\n\t"
	S "mov $5, %eax\n\t"
	S "push %rax\n\t"
	S "pop %rbx\n\t"
	S "lea 1(%rax), %rcx\n\t"
	S "add %rcx, %rax\n\t"
	S "pushfq\n\t"
	S "popfq\n\t"
	S "mov %rax, %r12\n\t"
	DONE
	CODE_END);

asm(CODE("loop")
	S "mov $3, %ecx\n\t"
	"1: " S "dec %ecx\n\t"
	S "jnz 1b\n\t"
	DONE
	CODE_END);

asm(CODE("branch")
	S "cmp %eax, %eax\n\t"
	S "jne 2f\n\t"
	S "je 2f\n\t"
	S "ud2\n\t"
	"2: " S "call 3f\n\t"
	DONE
	"3: " S "nop\n\t"
	S "ret\n\t"
	CODE_END);

asm(CODE("cpuid_skipped")
	S "xor %eax, %eax\n\t"
	S "xor %ecx, %ecx\n\t"
	S "cpuid\n\t"
	S "nop\n\t"
	S "cpuid\n\t"
	DONE
	CODE_END);

/* The number is of no hypercall. */
asm(CODE("hypercall")
	S "mov $0xffff, %eax\n\t"
	S "vmcall\n\t"
	S "mov %rax, %r12\n\t"
	DONE
	CODE_END);

/* This one is for the tool. */
asm(CODE("tool_hypercall")
	S "mov $" __stringify(KVM_HC_XEN_HVM_OP) ", %eax\n\t"
	S "mov $" __stringify(KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT) ", %edi\n\t"
	S "xor %esi, %esi\n\t"
	S "vmcall\n\t"
	S "mov %rax, %r12\n\t"
	DONE
	CODE_END);

/* The interrupt controller in the kernel, and then user space. */
asm(CODE("io")
	S "in $0x21, %al\n\t"
	S "out %al, $0x21\n\t"
	S "mov $" UCALL_PORT ", %edx\n\t"
	S "in %dx, %al\n\t"
	S "nop\n\t"
	DONE
	CODE_END);

/* KVM has a fast path for this MSR, which does not leave the inner loop. */
asm(CODE("msr")
	S "mov $" __stringify(MSR_IA32_TSC_DEADLINE) ", %ecx\n\t"
	S "xor %eax, %eax\n\t"
	S "xor %edx, %edx\n\t"
	S "wrmsr\n\t"
	S "wrmsr\n\t"
	S "mov $" __stringify(MSR_EFER) ", %ecx\n\t"
	S "rdmsr\n\t"
	S "wrmsr\n\t"
	DONE
	CODE_END);

asm(CODE("control_registers")
	S "mov %cr0, %rax\n\t"
	S "mov %rax, %cr0\n\t"
	S "mov %cr3, %rax\n\t"
	S "mov %rax, %cr3\n\t"
	S "mov %cr4, %rax\n\t"
	S "mov %rax, %cr4\n\t"
	DONE
	CODE_END);

asm(CODE("halt")
	S "nop\n\t"
	S "hlt\n\t"
	S "nop\n\t"
	DONE
	CODE_END);

/* Neither the guest nor its handlers see that the tool steps: rflags in r12. */
asm(CODE("pushf")
	S "pushfq\n\t"
	S "pop %r12\n\t"
	S "push %r12\n\t"
	S "popfq\n\t"
	S "pushfq\n\t"
	S "pop %r13\n\t"
	S "mov %r12, guest_flags(%rip)\n\t"
	S "mov %r13, guest_flags+8(%rip)\n\t"
	DONE
	CODE_END);

u64 guest_flags[2];

/* Handler and code after the fault. */
asm(CODE("page_fault")
	S "nop\n\t"
	S "mov (%rdi), %rax\n\t"
	"2: " S "nop\n\t"
	DONE
	S "mov 24(%rsp), %r12\n\t"
	S "pop %rax\n\t"
	S "lea 2b(%rip), %r13\n\t"
	S "mov %r13, (%rsp)\n\t"
	S "iretq\n\t"
	CODE_END);

asm(CODE("undefined")
	S "nop\n\t"
	S "ud2\n\t"
	S "nop\n\t"
	DONE
	S "mov 16(%rsp), %r12\n\t"
	S "addq $2, (%rsp)\n\t"
	S "iretq\n\t"
	CODE_END);

asm(CODE("breakpoint")
	S "nop\n\t"
	S "int3\n\t"
	S "nop\n\t"
	DONE
	S "mov 16(%rsp), %r12\n\t"
	S "iretq\n\t"
	CODE_END);

/* The guest's own TF: #DB comes after the instruction that follows POPF. */
asm(CODE("own_trap")
	S "pushfq\n\t"
	S "orq $0x100, (%rsp)\n\t"
	S "popfq\n\t"
	S "nop\n\t"
	S "nop\n\t"
	DONE
	S "mov %dr6, %r13\n\t"
	S "mov 16(%rsp), %r12\n\t"
	S "andq $~0x100, 16(%rsp)\n\t"
	S "iretq\n\t"
	CODE_END);

/* For ever, or until rbx is 0x77. */
asm(CODE("spin")
	"spin: 1: " S "inc %rcx\n\t"
	S "cmp $0x77, %rbx\n\t"
	S "jne 1b\n\t"
	DONE
	CODE_END);

/* What host and guest say to each other in the case with I/O. */
static struct ucall step_ucall = { .cmd = UCALL_SYNC, .args = { 0, 0x1234 } };

static void check_straight(const struct kvm_regs *regs)
{
	TEST_ASSERT_EQ(regs->rbx, 5);
	TEST_ASSERT_EQ(regs->rcx, 6);
	TEST_ASSERT_EQ(regs->r12, 11);
}

static void check_hypercall(const struct kvm_regs *regs)
{
	TEST_ASSERT_EQ(regs->r12, (u64)-KVM_ENOSYS);
}

static void check_no_tf(const struct kvm_regs *regs)
{
	kvmi_check_no_tf(regs->r12);
}

static void check_no_tf_twice(const struct kvm_regs *regs)
{
	check_no_tf(regs);
	TEST_ASSERT_EQ(regs->r13, regs->r12);
}

static void check_own_tf(const struct kvm_regs *regs)
{
	TEST_ASSERT(regs->r12 & X86_EFLAGS_TF, "The guest does not see its TF: %llx",
		    regs->r12);
	TEST_ASSERT(regs->r13 & BIT(14), "DR6.BS is not set: %llx", regs->r13);
}

static const struct kvmi_step_case straight_case = {
	CASE(straight),
	.path = { 1, 2, 3, 4, 5, 6, 7, 8, 9, END },
	.check = check_straight,
};

static const struct kvmi_step_case loop_case = {
	CASE(loop),
	.path = { 1, 2, 1, 2, 1, 2, 3, END },
};

static const struct kvmi_step_case branch_case = {
	CASE(branch),
	.path = { 1, 2, 4, 6, 7, 5, END },
};

static const struct kvmi_step_case cpuid_case = {
	CASE(cpuid_skipped),
	.path = { 1, 2, 3, 4, 5, END },
};

static const struct kvmi_step_case hypercall_case = {
	CASE(hypercall),
	.path = { 1, 2, 3, END },
	.check = check_hypercall,
};

static const struct kvmi_step_case io_case = {
	CASE(io),
	.path = { 1, 2, 3, 4, 5, END },
};

static const struct kvmi_step_case msr_case = {
	CASE(msr),
	.path = { 1, 2, 3, 4, 5, 6, 7, 8, END },
};

static const struct kvmi_step_case cr_case = {
	CASE(control_registers),
	.path = { 1, 2, 3, 4, 5, 6, END },
};

static const struct kvmi_step_case pushf_case = {
	CASE(pushf),
	.path = { 1, 2, 3, 4, 5, 6, 7, 8, END },
	.check = check_no_tf_twice,
};

static const struct kvmi_step_case page_fault_case = {
	CASE(page_fault),
	.vector = PF_VECTOR,
	.handler = 4,
	.rdi = UNMAPPED_GVA,
	.path = { 1, 4, 5, 6, 7, 8, 2, 3, END },
	.check = check_no_tf,
};

static const struct kvmi_step_case undefined_case = {
	CASE(undefined),
	.vector = UD_VECTOR,
	.handler = 4,
	.path = { 1, 4, 5, 6, 2, 3, END },
	.check = check_no_tf,
};

static const struct kvmi_step_case breakpoint_case = {
	CASE(breakpoint),
	.vector = BP_VECTOR,
	.handler = 4,
	.path = { 1, 4, 5, 2, 3, END },
	.check = check_no_tf,
};

static const struct kvmi_step_case own_trap_case = {
	CASE(own_trap),
	.vector = DB_VECTOR,
	.handler = 6,
	.path = { 1, 2, 3 | OWN_TF, 4 | OWN_TF | OPTIONAL, 6 | OPTIONAL, 7, 8, 9, 4, 5, END },
	.check = check_own_tf,
};

/* The instruction of the host's vendor. */
static void patch_hypercall(struct kvm_vm *vm, u64 gva)
{
	u8 *insn = addr_gva2hva(vm, gva);

	TEST_ASSERT(insn[0] == 0x0f && insn[1] == 0x01, "No hypercall");
	insn[2] = host_cpu_is_amd_compatible ? 0xd9 : 0xc1;
}

TEST_F(kvmi_singlestep, errors)
{
	struct kvmi_vcpu_control_singlestep bad[2 + 7 * 2] = {
		{ .enable = 2 },
		{ .enable = 0xff },
	};
	struct kvmi_vcpu_control_singlestep req = { .enable = 1 };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	for (i = 0; i < 7; i++) {
		bad[2 + 2 * i].padding[i] = 1;
		bad[3 + 2 * i].enable = 1;
		bad[3 + 2 * i].padding[i] = 0x80;
	}

	kvmi_set_case(vcpu, &straight_case);
	kvmi_start_paused(self->tool, &runner, vcpu, &ev);
	kvmi_expect_errors(self->tool, KVMI_VCPU_CONTROL_SINGLESTEP, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EINVAL);
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_CONTROL_SINGLESTEP);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_SINGLESTEP, 0);
	TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 1), -KVM_EPERM);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_SINGLESTEP, 1);

	/* Twice the same is fine, and what is missing is zero. */
	TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 0), 0);
	for (i = sizeof(req); i >= 0; i--)
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_CONTROL_SINGLESTEP, 0,
					     &req, i, NULL, 0), 0);

	/* It is off, and enabling the event does not mean that it is on. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_SINGLESTEP, 1), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_done(&runner);
	kvmi_expect_quiet(self->tool);

	/* Disabling the event does not mean that it is off. */
	kvmi_set_case(vcpu, &straight_case);
	kvmi_start_stepping(self->tool, &runner, vcpu);
	TEST_ASSERT_EQ(kvmi_next_step(self->tool, 0, &ev), straight_steps[1]);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_SINGLESTEP, 0), 0);
	TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 1), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_step(self->tool, 0, straight_steps[2], &ev);
	kvmi_finish_stepping(self->tool, &runner, &ev);
}

TEST_F(kvmi_singlestep, straight)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &straight_case), "The host errs");
}

TEST_F(kvmi_singlestep, loop)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &loop_case), "The host errs");
}

TEST_F(kvmi_singlestep, branch)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &branch_case), "The host errs");
}

/* KVM completes these by skipping or emulating them. */
TEST_F(kvmi_singlestep, cpuid)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &cpuid_case), "The host errs");
}

TEST_F(kvmi_singlestep, hypercall)
{
	patch_hypercall(self->vm, hypercall_steps[1]);
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &hypercall_case), "The host errs");
}

TEST_F(kvmi_singlestep, io)
{
	struct kvmi_step_case c = io_case;

	c.rdi = (u64)&step_ucall;
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &c), "The host errs");
}

TEST_F(kvmi_singlestep, msr)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &msr_case), "The host errs");
}

TEST_F(kvmi_singlestep, control_registers)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &cr_case), "The host errs");
}

TEST_F(kvmi_singlestep, pushf)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &pushf_case), "The host errs");
}

TEST_F(kvmi_singlestep, page_fault)
{
	if (!kvmi_test_case(self->tool, self->vcpu[0], &page_fault_case))
		SKIP(return, "The host leaves a guest with a fault at the wrong rip");
}

TEST_F(kvmi_singlestep, undefined)
{
	if (!kvmi_test_case(self->tool, self->vcpu[0], &undefined_case))
		SKIP(return, "The host leaves a guest with a fault at the wrong rip");
}

TEST_F(kvmi_singlestep, own_trap)
{
	TEST_ASSERT(kvmi_test_case(self->tool, self->vcpu[0], &own_trap_case), "The host errs");
}

TEST_F(kvmi_singlestep, breakpoint)
{
	if (!kvmi_test_case(self->tool, self->vcpu[0], &breakpoint_case))
		SKIP(return, "The host leaves a guest with a fault at the wrong rip");
}

/* The vCPU goes into user space and comes back: once, and with the right data. */
TEST_F(kvmi_singlestep, user_space_io)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	kvmi_set_steps(vcpu, io_steps, (u64)&step_ucall);
	kvmi_start_stepping(self->tool, &runner, vcpu);
	for (i = 1; i <= 5; i++) {
		kvmi_expect_step(self->tool, 0, io_steps[i], &ev);
		TEST_ASSERT_EQ(READ_ONCE(runner.syncs), i >= 4);
		if (i < 5)
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_finish_stepping(self->tool, &runner, &ev);
	TEST_ASSERT_EQ(runner.synced, 0x1234);
	TEST_ASSERT_EQ(runner.syncs, 1);
}

/* An instruction that raises an event of its own: that one comes first. */
TEST_F(kvmi_singlestep, other_event)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int round;

	patch_hypercall(self->vm, tool_hypercall_steps[3]);
	for (round = 0; round < 3; round++) {
		kvmi_set_steps(vcpu, tool_hypercall_steps, 0);
		kvmi_start_stepping(self->tool, &runner, vcpu);
		kvmi_expect_step(self->tool, 0, tool_hypercall_steps[1], &ev);
		TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, 1), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_step(self->tool, 0, tool_hypercall_steps[2], &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_step(self->tool, 0, tool_hypercall_steps[3], &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
		TEST_ASSERT_EQ(ev.common.arch.regs.rip, tool_hypercall_steps[3]);
		if (round == 1)
			kvmi_interrupt(&runner);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_step(self->tool, 0, tool_hypercall_steps[4], &ev);
		TEST_ASSERT_EQ(ev.common.arch.regs.rax, 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_step(self->tool, 0, tool_hypercall_steps[5], &ev);
		kvmi_finish_stepping(self->tool, &runner, &ev);
	}
}

/* A pause while the vCPU waits comes before the next instruction. */
TEST_F(kvmi_singlestep, pause)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, pause;
	int i;

	kvmi_set_case(vcpu, &straight_case);
	kvmi_start_stepping(self->tool, &runner, vcpu);
	for (i = 1; i < 9; i++) {
		kvmi_expect_step(self->tool, 0, straight_steps[i], &ev);
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, i & 1), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &pause);
		TEST_ASSERT_EQ(pause.common.arch.regs.rip, straight_steps[i]);
		TEST_ASSERT(!(pause.common.arch.regs.rflags & X86_EFLAGS_TF), "The tool sees TF");
		kvmi_reply(self->tool, &pause, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_expect_step(self->tool, 0, straight_steps[9], &ev);
	kvmi_finish_stepping(self->tool, &runner, &ev);
}

/* Nothing wakes the vCPU: it can be paused, and does not go on. */
TEST_F(kvmi_singlestep, halt)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i, steps = 0;

	kvmi_set_steps(vcpu, halt_steps, 0);
	kvmi_start_stepping(self->tool, &runner, vcpu);
	kvmi_expect_step(self->tool, 0, halt_steps[1], &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	/* HLT is an instruction, too; whether it is done while the vCPU sleeps is open. */
	usleep(KVMI_QUIET_MS * 1000);
	for (i = 0; i < 3; i++) {
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 1), 0);
		for (;;) {
			TEST_ASSERT(kvmi_next_event(self->tool, &ev), "Closed");
			TEST_ASSERT_EQ(ev.common.arch.regs.rip, halt_steps[2]);
			if (ev.event.event == KVMI_VCPU_EVENT_PAUSE)
				break;
			TEST_ASSERT_EQ(ev.event.event, KVMI_VCPU_EVENT_SINGLESTEP);
			kvmi_check_step(&ev);
			TEST_ASSERT_EQ(++steps, 1);
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

static void guest_spin_irq(void)
{
	x2apic_enable();
	sti();
	asm volatile("xor %%ebx, %%ebx\n\tjmp spin" : : : "rbx", "memory");
}

static void send_irq(struct kvm_vm *vm)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA, .data = IRQ_VECTOR };

	TEST_ASSERT_EQ(__vm_ioctl(vm, KVM_SIGNAL_MSI, &msi), 1);
}

static void wait_irqs(struct kvm_vm *vm, u64 nr)
{
	u64 *irqs = addr_gva2hva(vm, (gva_t)&guest_irqs);
	int ms = KVMI_TIMEOUT_MS;

	while (READ_ONCE(*irqs) < nr && ms--)
		usleep(1000);
	TEST_ASSERT_EQ(READ_ONCE(*irqs), nr);
}

/* One of the instructions of the loop; returns which. */
static int spin_index(u64 rip)
{
	int i;

	for (i = 0; i < 3; i++)
		if (rip == spin_steps[i])
			return i;
	TEST_FAIL("The guest is at %lx, not in its loop", (unsigned long)rip);
	return 0;
}

/* Once around the loop, and on: each step is the next instruction. */
static void step_spin(struct kvmi_tool *tool, u16 vcpu, int steps, struct kvmi_ev *ev)
{
	int at;

	at = spin_index(kvmi_next_step(tool, vcpu, ev));
	while (steps--) {
		kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
		at = (at + 1) % 3;
		kvmi_expect_step(tool, vcpu, spin_steps[at], ev);
	}
}

static bool is_in_spin(const struct kvm_regs *regs)
{
	return regs->rip >= spin_steps[0] && regs->rip <= spin_steps[2];
}

/* The guest goes around its loop, and has taken an interrupt. */
static void start_spin(struct kvmi_tool *tool, struct kvmi_runner *runner,
		       struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;

	vm_install_exception_handler(vcpu->vm, IRQ_VECTOR, guest_irq_handler);
	vcpu_arch_set_entry_point(vcpu, guest_spin_irq);
	kvmi_start(runner, vcpu);
	do {
		usleep(1000);
		TEST_ASSERT_EQ(kvmi_get_registers(tool, vcpu->id, &regs), 0);
	} while (!is_in_spin(&regs));
	send_irq(vcpu->vm);
	wait_irqs(vcpu->vm, 1);
}

/* Step on while an interrupt is pending; the guest has taken so many before. */
static void step_with_irq(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u64 taken,
			  struct kvmi_ev *ev)
{
	u64 *irqs = addr_gva2hva(vcpu->vm, (gva_t)&guest_irqs);

	/* Only in the loop it is behind its handler for sure. */
	for (;;) {
		TEST_ASSERT_EQ(kvmi_pause(tool, vcpu->id, 1), 0);
		kvmi_expect_event(tool, vcpu->id, KVMI_VCPU_EVENT_PAUSE, ev);
		if (is_in_spin(&ev->common.arch.regs))
			break;
		kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	}

	TEST_ASSERT_EQ(kvmi_control_singlestep(tool, vcpu->id, 1), 0);
	send_irq(vcpu->vm);
	kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	step_spin(tool, vcpu->id, 10, ev);
	TEST_ASSERT_EQ(READ_ONCE(*irqs), taken);
}

/* An interrupt that comes meanwhile is delivered when the stepping is over. */
TEST_F(kvmi_singlestep, interrupt_is_held_back)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int round;

	start_spin(self->tool, &runner, vcpu);

	for (round = 0; round < 3; round++) {
		step_with_irq(self->tool, vcpu, round + 1, &ev);
		TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 0), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		wait_irqs(self->vm, round + 2);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

/* So it is when the connection ends instead. */
TEST_F(kvmi_singlestep, interrupt_after_the_end)
{
	enum { CLOSE, UNHOOK, CLOSE_OUT, UNHOOK_OUT, NR };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int how;

	start_spin(self->tool, &runner, vcpu);
	for (how = 0; how < NR; how++) {
		bool out = how == CLOSE_OUT || how == UNHOOK_OUT;

		step_with_irq(self->tool, vcpu, how + 1, &ev);
		if (out)
			kvmi_stop(&runner);
		if (how == CLOSE || how == CLOSE_OUT)
			kvmi_close(self->tool);
		else
			kvmi_unhook(self->vm);
		if (out)
			kvmi_start(&runner, vcpu);
		wait_irqs(self->vm, how + 2);
		self->tool = kvmi_rehook(self->tool);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

/* Switched on and off while the vCPU runs, and waits for nothing. */
TEST_F(kvmi_singlestep, running)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	int round;
	u64 rcx;

	kvmi_set_steps(vcpu, spin_steps, 0);
	vcpu_regs_get(vcpu, &regs);
	/* As kvmi_guest_may_spin(). */
	regs.rflags |= X86_EFLAGS_IF;
	vcpu_regs_set(vcpu, &regs);
	kvmi_start(&runner, vcpu);
	for (round = 0; round < 5; round++) {
		TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 1), 0);
		step_spin(self->tool, 0, 7, &ev);
		TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 0), 0);
		rcx = ev.common.arch.regs.rcx;
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_quiet(self->tool);
		TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 0, &regs), 0);
		TEST_ASSERT(regs.rcx > rcx + 10, "The guest does not run: %llx after %lx",
			    regs.rcx, (unsigned long)rcx);
		TEST_ASSERT(!(regs.rflags & X86_EFLAGS_TF), "TF is left");
	}

	/* Out of the loop. */
	TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 1), 0);
	kvmi_next_step(self->tool, 0, &ev);
	regs = ev.common.arch.regs;
	regs.rbx = 0x77;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_finish_stepping(self->tool, &runner, &ev);
}

/* The guest goes on where the tool has put it. */
TEST_F(kvmi_singlestep, set_registers)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	int i;

	for (i = 0; i < 2; i++) {
		kvmi_set_case(vcpu, &straight_case);
		kvmi_start_stepping(self->tool, &runner, vcpu);
		kvmi_expect_step(self->tool, 0, straight_steps[1], &ev);
		regs = ev.common.arch.regs;
		regs.rip = straight_steps[4];
		regs.rax = 0x100;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_step(self->tool, 0, straight_steps[5], &ev);
		TEST_ASSERT_EQ(ev.common.arch.regs.rcx, 0x101);

		/* rflags as well, and no TF comes of it. */
		regs = ev.common.arch.regs;
		regs.rip = straight_steps[8];
		regs.rax = 0x200;
		regs.rflags ^= X86_EFLAGS_CF;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_step(self->tool, 0, straight_steps[9], &ev);
		TEST_ASSERT_EQ(ev.common.arch.regs.r12, 0x200);
		TEST_ASSERT_EQ(ev.common.arch.regs.rflags, regs.rflags);
		kvmi_finish_stepping(self->tool, &runner, &ev);
	}
}

/* A signal ends the waiting: no step is lost, and none is told twice. */
TEST_F(kvmi_singlestep, interrupted)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u32 seq = 0;
	int i;

	kvmi_set_case(vcpu, &straight_case);
	kvmi_start_stepping(self->tool, &runner, vcpu);
	for (i = 1; i <= 9; i++) {
		kvmi_expect_step(self->tool, 0, straight_steps[i], &ev);
		TEST_ASSERT(i == 1 || ev.hdr.seq == seq + 1, "Event %u after %u", ev.hdr.seq, seq);
		seq = ev.hdr.seq;
		if (i & 1) {
			kvmi_interrupt(&runner);
			kvmi_interrupt(&runner);
		} else {
			kvmi_stop(&runner);
			vcpu_regs_get(vcpu, &regs);
			TEST_ASSERT_EQ(regs.rip, straight_steps[i]);
			TEST_ASSERT(!(regs.rflags & X86_EFLAGS_TF), "The VMM sees TF");
		}
		kvmi_expect_quiet(self->tool);
		if (i == 9)
			break;
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		if (!(i & 1)) {
			kvmi_check_version(self->tool);
			kvmi_start(&runner, vcpu);
		}
	}
	check_straight(&ev.common.arch.regs);
	kvmi_finish_stepping(self->tool, &runner, &ev);
}

TEST_F(kvmi_singlestep, crash)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	kvmi_set_case(vcpu, &straight_case);
	kvmi_start_stepping(self->tool, &runner, vcpu);
	kvmi_expect_step(self->tool, 0, straight_steps[1], &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_expect_crash(&runner);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, straight_steps[1]);
	TEST_ASSERT(!(regs.rflags & X86_EFLAGS_TF), "The VMM sees TF");

	/* A VMM that goes on nevertheless, without the tool. */
	kvmi_unhook(self->vm);
	kvmi_start(&runner, vcpu);
	kvmi_expect_done(&runner);
}

/* The guest has come to its end without the tool. */
static void expect_done_without_tf(struct kvmi_runner *runner)
{
	u64 *flags = addr_gva2hva(runner->vcpu->vm, (gva_t)guest_flags);
	struct kvm_regs regs;

	kvmi_expect_done(runner);
	kvmi_check_no_tf(flags[0]);
	kvmi_check_no_tf(flags[1]);
	vcpu_regs_get(runner->vcpu, &regs);
	TEST_ASSERT(!(regs.rflags & X86_EFLAGS_TF), "TF is left in the guest");
}

/* Whoever ends it, and however: the guest goes on, without steps and without TF. */
TEST_F(kvmi_singlestep, ends)
{
	enum { RETRY, ACTION, DATA, CLOSE, UNHOOK, CLOSE_OUT, UNHOOK_OUT, DISALLOW, NR };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int how;

	for (how = 0; how < NR; how++) {
		kvmi_set_case(vcpu, &pushf_case);
		kvmi_start_stepping(self->tool, &runner, vcpu);
		kvmi_expect_step(self->tool, 0, pushf_steps[1], &ev);
		if (how == CLOSE_OUT || how == UNHOOK_OUT)
			kvmi_stop(&runner);
		switch (how) {
		case RETRY:
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
			kvmi_expect_closed(self->tool);
			break;
		case ACTION:
			kvmi_reply(self->tool, &ev, 3);
			kvmi_expect_closed(self->tool);
			break;
		case DATA:
			kvmi_reply_value(self->tool, &ev, 0);
			kvmi_expect_closed(self->tool);
			break;
		case CLOSE:
		case CLOSE_OUT:
			kvmi_close(self->tool);
			break;
		case UNHOOK:
		case UNHOOK_OUT:
			kvmi_unhook(self->vm);
			kvmi_expect_closed(self->tool);
			break;
		case DISALLOW:
			kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_SINGLESTEP, 0);
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			break;
		}
		if (how == CLOSE_OUT || how == UNHOOK_OUT)
			kvmi_start(&runner, vcpu);
		expect_done_without_tf(&runner);
		if (how == DISALLOW)
			kvmi_expect_quiet(self->tool);

		/* A new tool begins with nothing. */
		self->tool = kvmi_rehook(self->tool);
		kvmi_run_unwatched(vcpu, &pushf_case);
		kvmi_expect_quiet(self->tool);
	}
}

/* It ends between the instructions that save and restore the flags. */
TEST_F(kvmi_singlestep, no_tf_is_left)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int last, i;

	for (last = 1; last <= 6; last++) {
		kvmi_set_case(vcpu, &pushf_case);
		kvmi_start_stepping(self->tool, &runner, vcpu);
		for (i = 1; i <= last; i++) {
			kvmi_expect_step(self->tool, 0, pushf_steps[i], &ev);
			if (i < last)
				kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
		kvmi_unhook(self->vm);
		expect_done_without_tf(&runner);
		self->tool = kvmi_rehook(self->tool);
	}
}

/* One vCPU steps, the other does not; then both, at the same time. */
TEST_F(kvmi_singlestep, two_vcpus)
{
	static const struct kvmi_step_case *cases[] = { &straight_case, &loop_case };
	struct kvmi_runner runner[2];
	u16 at[2] = {}, last[2] = {};
	struct kvmi_ev ev;
	int i, n, left;

	kvmi_set_case(self->vcpu[0], &straight_case);
	kvmi_start_stepping(self->tool, &runner[0], self->vcpu[0]);
	kvmi_expect_step(self->tool, 0, straight_steps[1], &ev);
	kvmi_run_unwatched(self->vcpu[1], &branch_case);
	kvmi_expect_quiet(self->tool);
	kvmi_finish_stepping(self->tool, &runner[0], &ev);

	for (i = 0; i < 2; i++) {
		while (cases[i]->path[last[i] + 1] != END)
			last[i]++;
		kvmi_set_case(self->vcpu[i], cases[i]);
		TEST_ASSERT_EQ(kvmi_pause(self->tool, i, 0), 0);
		kvmi_start(&runner[i], self->vcpu[i]);
	}
	for (left = 2; left;) {
		TEST_ASSERT(kvmi_next_event(self->tool, &ev), "Closed");
		n = ev.common.vcpu;
		TEST_ASSERT(n < 2, "vCPU %d", n);
		if (ev.event.event == KVMI_VCPU_EVENT_PAUSE) {
			TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, n, 1), 0);
		} else {
			TEST_ASSERT_EQ(ev.event.event, KVMI_VCPU_EVENT_SINGLESTEP);
			kvmi_check_step(&ev);
			TEST_ASSERT_EQ(ev.common.arch.regs.rip,
				       cases[n]->steps[cases[n]->path[at[n]]]);
			if (at[n]++ == last[n]) {
				TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, n, 0), 0);
				left--;
			}
		}
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_expect_done(&runner[0]);
	kvmi_expect_done(&runner[1]);
	kvmi_expect_quiet(self->tool);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
