// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: single steps over what stores and loads RFLAGS, and over what
 * else the guest can see debugging by. It sees the same as without the tool.
 */
#include "kvm_test_harness.h"
#include "kvmi_step.h"
#include "test_util.h"

#define SOFT_VECTOR	0x80
#define DR6_BS		BIT(14)

KVMI_TEST_SUITE(kvmi_step_flags, 1);

/* What the guest has seen; r15 is where its handlers go on. */
#define LOG_ENTRIES	256
u64 guest_log[LOG_ENTRIES];

/* What a handler writes there. */
struct handled {
	u64 vector;
	u64 flags;		/* in the handler */
	u64 rip;		/* where the exception was */
	u64 saved_flags;
	u64 dr6;
};

/* Watched by the guest's own debug registers. */
u32 guest_watched;

static u64 *log_of(struct kvm_vcpu *vcpu)
{
	return addr_gva2hva(vcpu->vm, (gva_t)guest_log);
}

/* Code to step through. */
extern u64 syscall_steps[], syscall_own_tf_steps[], soft_interrupt_steps[],
	   user_interrupt_steps[], denied_interrupt_steps[], mov_ss_steps[],
	   sti_steps[], shadow_steps[], shadow_interrupt_steps[], own_flags_steps[],
	   own_interrupt_steps[], int1_steps[], code_breakpoint_steps[],
	   data_breakpoint_steps[];

/* A handler of a vector without an error code; @last changes what is returned to. */
#define __HANDLER(vector, last)						\
	S "pushfq\n\t"							\
	S "pop %r8\n\t"							\
	S "mov (%rsp), %r9\n\t"						\
	S "mov 16(%rsp), %r10\n\t"					\
	S "mov %dr6, %rbx\n\t"						\
	S "movq $" __stringify(vector) ", (%r15)\n\t"			\
	S "mov %r8, 8(%r15)\n\t"					\
	S "mov %r9, 16(%r15)\n\t"					\
	S "mov %r10, 24(%r15)\n\t"					\
	S "mov %rbx, 32(%r15)\n\t"					\
	S "mov $0xffff0ff0, %ebx\n\t"					\
	S "mov %rbx, %dr6\n\t"						\
	S last "\n\t"							\
	S "add $40, %r15\n\t"						\
	S "iretq\n\t"
#define HANDLER(vector)	__HANDLER(vector, "nop")
/* RF: not to come back to a breakpoint on an instruction. */
#define RF_HANDLER	__HANDLER(1, "orq $0x10000, 16(%rsp)")

/* In a path: all of a handler that begins at this step. */
#define HANDLED		0x400
#define HANDLER_STEPS	15

/* Into ring 3, at the label 3. */
#define TO_USER								\
	S "pushfq\n\t"							\
	S "pop %r11\n\t"						\
	S "lea 3f(%rip), %rcx\n\t"					\
	S "sysretq\n\t"

#define SET_TF								\
	S "pushfq\n\t"							\
	S "orq $0x100, (%rsp)\n\t"					\
	S "popfq\n\t"
#define CLEAR_TF							\
	S "pushfq\n\t"							\
	S "andq $~0x100, (%rsp)\n\t"					\
	S "popfq\n\t"

/* The target of SYSCALL is step 8. */
asm(CODE("syscall")
	TO_USER
	"3: " S "pushfq\n\t"
	S "pop %r12\n\t"
	S "mov %r12, guest_log(%rip)\n\t"
	S "syscall\n\t"
	S "pushfq\n\t"
	S "pop %r13\n\t"
	S "mov %r13, guest_log+8(%rip)\n\t"
	S "mov %r11, guest_log+16(%rip)\n\t"
	S "mov %rcx, guest_log+24(%rip)\n\t"
	DONE
	CODE_END);

static const struct kvmi_step_case syscall_case = {
	CASE(syscall),
	.path = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, END },
};

/* Ring 3 sets TF; the target of SYSCALL is step 10, and TF is given back by SYSRET. */
asm(CODE("syscall_own_tf")
	TO_USER
	"3: " SET_TF
	S "nop\n\t"
	S "lea 5f(%rip), %rbp\n\t"
	S "syscall\n\t"
	S "jmp *%rbp\n\t"
	"5: " S "mov %r11, (%r15)\n\t"
	S "pushfq\n\t"
	S "pop %r12\n\t"
	S "mov %r12, 8(%r15)\n\t"
	S "add $40, %r15\n\t"
	S "or $0x100, %r11\n\t"
	S "lea 4f(%rip), %rcx\n\t"
	S "sysretq\n\t"
	"4: " S "nop\n\t"
	CLEAR_TF
	S "lea 6f(%rip), %rbp\n\t"
	S "syscall\n\t"
	"6: " CLEAR_TF
	S "mov %r11, (%r15)\n\t"
	DONE
	HANDLER(1)
	CODE_END);

static const struct kvmi_step_case syscall_own_tf_case = {
	CASE(syscall_own_tf),
	.vector = DB_VECTOR,
	.handler = 30,
};

asm(CODE("soft_interrupt")
	S "nop\n\t"
	S "int $0x80\n\t"
	S "nop\n\t"
	DONE
	HANDLER(0x80)
	CODE_END);

static const struct kvmi_step_case soft_interrupt_case = {
	CASE(soft_interrupt),
	.vector = SOFT_VECTOR,
	.handler = 4,
	.path = { 1, 4 | HANDLED, 2, 3, END },
};

/* From ring 3, and INT3. The target of SYSCALL is step 8. */
asm(CODE("user_interrupt")
	TO_USER
	"3: " S "int $0x80\n\t"
	S "int3\n\t"
	S "nop\n\t"
	S "syscall\n\t"
	DONE
	HANDLER(0x80)
	HANDLER(3)
	CODE_END);

static const struct kvmi_step_case user_interrupt_case = {
	CASE(user_interrupt),
	.vector = SOFT_VECTOR,
	.handler = 9,
	.path = { 1, 2, 3, 4, 9 | HANDLED, 5, 24 | HANDLED, 6, 7, 8, END },
};

/* Ring 3 must not do that. The target of SYSCALL is step 8. */
asm(CODE("denied_interrupt")
	TO_USER
	"3: " S "int $0x80\n\t"
	S "nop\n\t"
	S "nop\n\t"
	S "syscall\n\t"
	DONE
	S "pop %rbp\n\t"
	__HANDLER(13, "addq $2, (%rsp)")
	CODE_END);

static void check_denied_interrupt(const struct kvm_regs *regs)
{
	TEST_ASSERT_EQ(regs->rbp, SOFT_VECTOR << 3 | 2);
}

static const struct kvmi_step_case denied_interrupt_case = {
	CASE(denied_interrupt),
	.vector = GP_VECTOR,
	.handler = 9,
	.path = { 1, 2, 3, 4, 9, 10 | HANDLED, 5, 6, 7, 8, END },
	.check = check_denied_interrupt,
};

/* No trap of the processor's comes behind MOV SS. */
asm(CODE("mov_ss")
	S "mov %ss, %eax\n\t"
	S "mov %eax, %ss\n\t"
	S "nop\n\t"
	S "nop\n\t"
	DONE
	CODE_END);

static const struct kvmi_step_case mov_ss_case = {
	CASE(mov_ss),
	.path = { 1, 2 | OPTIONAL, 3, 4, END },
};

asm(CODE("sti")
	S "cli\n\t"
	S "sti\n\t"
	S "nop\n\t"
	S "nop\n\t"
	S "cli\n\t"
	DONE
	CODE_END);

static const struct kvmi_step_case sti_case = {
	CASE(sti),
	.path = { 1, 2, 3, 4, 5, END },
};

/* In the shadow of MOV SS: what stores the flags. The target of SYSCALL is step 14. */
asm(CODE("shadow")
	S "mov %ss, %eax\n\t"
	S "mov %eax, %ss\n\t"
	S "pushfq\n\t"
	S "pop %r12\n\t"
	S "mov %r12, guest_log(%rip)\n\t"
	S "mov %eax, %ss\n\t"
	S "push %r12\n\t"
	S "mov %eax, %ss\n\t"
	S "popfq\n\t"
	S "sti\n\t"
	S "pushfq\n\t"
	S "pop guest_log+16(%rip)\n\t"
	S "mov %eax, %ss\n\t"
	S "syscall\n\t"
	S "mov %r11, guest_log+8(%rip)\n\t"
	S "cli\n\t"
	DONE
	CODE_END);

static const struct kvmi_step_case shadow_case = {
	CASE(shadow),
	.path = { 1, 2 | OPTIONAL, 3, 4, 5, 6 | OPTIONAL, 7, 8 | OPTIONAL, 9, 10, 11, 12,
		  13 | OPTIONAL, 14, 15, 16, END },
};

/* And what starts a handler. */
asm(CODE("shadow_interrupt")
	S "mov %ss, %eax\n\t"
	S "mov %eax, %ss\n\t"
	S "int $0x80\n\t"
	S "mov %ss, %eax\n\t"
	S "mov %eax, %ss\n\t"
	S "int3\n\t"
	S "nop\n\t"
	DONE
	HANDLER(0x80)
	HANDLER(3)
	CODE_END);

static const struct kvmi_step_case shadow_interrupt_case = {
	CASE(shadow_interrupt),
	.vector = SOFT_VECTOR,
	.handler = 8,
	.path = { 1, 2 | OPTIONAL, 8 | HANDLED, 3, 4, 5 | OPTIONAL, 23 | HANDLED, 6, 7, END },
};

/* The guest's own TF, over instructions that are special to KVM or to the processor. */
asm(CODE("own_flags")
	SET_TF
	S "pushfq\n\t"
	S "pop %r12\n\t"
	S "mov %r12, (%r15)\n\t"
	S "add $40, %r15\n\t"
	S "xor %eax, %eax\n\t"
	S "cpuid\n\t"
	S "mov %ss, %eax\n\t"
	S "mov %eax, %ss\n\t"
	S "nop\n\t"
	S "sti\n\t"
	S "nop\n\t"
	S "cli\n\t"
	CLEAR_TF
	S "nop\n\t"
	DONE
	HANDLER(1)
	CODE_END);

static const struct kvmi_step_case own_flags_case = {
	CASE(own_flags),
	.vector = DB_VECTOR,
	.handler = 20,
};

/* With handlers for something else meanwhile. */
asm(CODE("own_interrupt")
	SET_TF
	S "nop\n\t"
	S "int $0x80\n\t"
	S "nop\n\t"
	S "int3\n\t"
	S "nop\n\t"
	CLEAR_TF
	S "nop\n\t"
	DONE
	HANDLER(1)
	HANDLER(0x80)
	HANDLER(3)
	CODE_END);

static const struct kvmi_step_case own_interrupt_case = {
	CASE(own_interrupt),
	.vector = DB_VECTOR,
	.handler = 13,
};

asm(CODE("int1")
	S "nop\n\t"
	S ".byte 0xf1\n\t"
	S "nop\n\t"
	DONE
	HANDLER(1)
	CODE_END);

static const struct kvmi_step_case int1_case = {
	CASE(int1),
	.vector = DB_VECTOR,
	.handler = 4,
	.path = { 1, 2 | OPTIONAL, 4 | HANDLED | OPTIONAL, 2, 3, END },
};

/* The guest's own breakpoint on an instruction. */
asm(CODE("code_breakpoint")
	S "lea 2f(%rip), %rax\n\t"
	S "mov %rax, %dr0\n\t"
	S "mov $0x401, %eax\n\t"
	S "mov %rax, %dr7\n\t"
	S "nop\n\t"
	"2: " S "nop\n\t"
	S "nop\n\t"
	S "mov $0x400, %eax\n\t"
	S "mov %rax, %dr7\n\t"
	DONE
	RF_HANDLER
	CODE_END);

static const struct kvmi_step_case code_breakpoint_case = {
	CASE(code_breakpoint),
	.vector = DB_VECTOR,
	.handler = 10,
	.path = { 1, 2, 3, 4, 5, 10 | HANDLED | OPTIONAL, 5, 6, 7, 8, 9, END },
};

/* And one on writes to four bytes. */
asm(CODE("data_breakpoint")
	S "lea guest_watched(%rip), %rax\n\t"
	S "mov %rax, %dr1\n\t"
	S "mov $0x00d00404, %eax\n\t"
	S "mov %rax, %dr7\n\t"
	S "nop\n\t"
	S "movl $1, guest_watched(%rip)\n\t"
	S "nop\n\t"
	S "mov $0x400, %eax\n\t"
	S "mov %rax, %dr7\n\t"
	DONE
	HANDLER(1)
	CODE_END);

static const struct kvmi_step_case data_breakpoint_case = {
	CASE(data_breakpoint),
	.vector = DB_VECTOR,
	.handler = 10,
	.path = { 1, 2, 3, 4, 5, 6 | OPTIONAL, 10 | HANDLED | OPTIONAL, 6, 7, 8, 9, END },
};

static void start_case(struct kvm_vcpu *vcpu, const struct kvmi_step_case *c)
{
	struct kvm_regs regs;

	memset(log_of(vcpu), 0, sizeof(guest_log));
	kvmi_set_case(vcpu, c);
	vcpu_regs_get(vcpu, &regs);
	regs.r15 = (u64)guest_log;
	regs.rflags = X86_EFLAGS_FIXED;
	vcpu_regs_set(vcpu, &regs);
}

static void run_alone(struct kvm_vcpu *vcpu, const struct kvmi_step_case *c)
{
	struct kvmi_runner runner;

	start_case(vcpu, c);
	kvmi_start(&runner, vcpu);
	kvmi_expect_done(&runner);
}

static void check_log(struct kvm_vcpu *vcpu, const struct kvmi_step_case *c, const u64 *want)
{
	u64 *log = log_of(vcpu);
	int i;

	for (i = 0; i < LOG_ENTRIES; i++)
		TEST_ASSERT(log[i] == want[i], "%s: the guest's entry %d is %lx instead of %lx",
			    c->name, i, (unsigned long)log[i], (unsigned long)want[i]);
}

/* The path with all steps of the handlers; the first one may be optional. */
static void expand_path(struct kvmi_step_case *c)
{
	u16 path[ARRAY_SIZE(c->path)], *to = c->path;
	int i, j;

	memcpy(path, c->path, sizeof(path));
	for (i = 0; path[i] != END; i++) {
		*to++ = path[i] & ~HANDLED;
		for (j = 1; (path[i] & HANDLED) && j < HANDLER_STEPS; j++)
			*to++ = INDEX(path[i]) + j;
		TEST_ASSERT(to < c->path + ARRAY_SIZE(c->path) - HANDLER_STEPS, "Long path");
	}
	*to = END;
}

/*
 * Without a path: every instruction of the case is there, and nothing else, until the
 * last before the handlers. Behind MOV SS nothing may be told.
 */
static bool wander(struct kvmi_tool *tool, const struct kvmi_step_case *c, int nr, int last,
		   u64 may_lack, struct kvmi_ev *ev)
{
	struct kvm_regs before = {};
	u64 rip, seen = 1;
	int i;

	for (;;) {
		rip = kvmi_next_step(tool, 0, ev);
		if (kvmi_is_misplaced(&before, &ev->common.arch.regs))
			return false;
		before = ev->common.arch.regs;
		for (i = 0; i < nr && rip != c->steps[i]; i++)
			;
		TEST_ASSERT(i < nr, "%s: the guest is at %lx", c->name, (unsigned long)rip);
		seen |= BIT_ULL(i);
		if (i == last)
			break;
		kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT((seen | may_lack) == GENMASK_ULL(nr - 1, 0),
		    "%s: steps %lx of %d", c->name, (unsigned long)seen, nr);

	return true;
}

/*
 * The guest sees the same whether it is stepped or not. @nr, @last and @may_lack are for
 * cases without a path. What it sees alone is left in its log. Returns false if the
 * host errs.
 */
static bool compare(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
		    const struct kvmi_step_case *c, int nr, int last, u64 may_lack)
{
	struct kvmi_step_case full = *c;
	u64 want[LOG_ENTRIES];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	bool fine;
	int round;

	if (c->path[0])
		expand_path(&full);
	/* With all memory mapped: KVM knows no better than to repeat INT n otherwise. */
	run_alone(vcpu, c);
	run_alone(vcpu, c);
	memcpy(want, log_of(vcpu), sizeof(want));
	for (round = 0; round < 2; round++) {
		start_case(vcpu, c);
		kvmi_start_stepping(tool, &runner, vcpu);
		fine = c->path[0] ? kvmi_follow(tool, 0, &full, &ev) :
				    wander(tool, c, nr, last, may_lack, &ev);
		if (!fine)
			return false;
		kvmi_finish_stepping(tool, &runner, &ev);
		check_log(vcpu, c, want);
	}
	run_alone(vcpu, c);
	check_log(vcpu, c, want);

	return true;
}

/* The guest can go to ring 3 and come back; this is where. */
static void allow_syscall(struct kvm_vcpu *vcpu, u64 target, u64 mask)
{
	struct kvm_sregs sregs;
	gva_t stack;

	stack = vm_alloc_page(vcpu->vm);
	kvmi_allow_user(vcpu->vm, stack + 4096);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.efer |= EFER_SCE;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_set_msr(vcpu, MSR_STAR, (u64)(KVMI_USER_CS - 16) << 48 | 8ull << 32);
	vcpu_set_msr(vcpu, MSR_LSTAR, target);
	vcpu_set_msr(vcpu, MSR_SYSCALL_MASK, mask);
}

static void allow_vector(struct kvm_vm *vm, int vector, u64 handler, int dpl)
{
	struct idt_entry *gates = addr_gva2hva(vm, vm->arch.idt);

	kvmi_set_gate(vm, vector, handler);
	gates[vector].dpl = dpl;
}

static struct handled *handled_of(struct kvm_vcpu *vcpu)
{
	return (struct handled *)log_of(vcpu);
}

#define MISPLACED "The host leaves a guest with a fault at the wrong rip"

TEST_F(kvmi_step_flags, syscall)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	u64 *log = log_of(vcpu);

	allow_syscall(vcpu, syscall_steps[8], 0);
	TEST_ASSERT(compare(self->tool, vcpu, &syscall_case, 0, 0, 0), "The host errs");
	kvmi_check_no_tf(log[0]);
	TEST_ASSERT_EQ(log[1], log[0]);
	TEST_ASSERT_EQ(log[2], log[0]);
	TEST_ASSERT_EQ(log[3], syscall_steps[8]);
}

/* TF survives SYSCALL, or does not. */
TEST_F(kvmi_step_flags, syscall_own_tf)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];

	allow_syscall(vcpu, syscall_own_tf_steps[10], 0);
	if (!compare(self->tool, vcpu, &syscall_own_tf_case, 30 + HANDLER_STEPS, 29, BIT_ULL(30)))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled_of(vcpu)[0].vector, DB_VECTOR);
	TEST_ASSERT_EQ(handled_of(vcpu)[0].rip, syscall_own_tf_steps[8]);
}

TEST_F(kvmi_step_flags, syscall_masks_tf)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];

	/* Processors trap behind the SYSRET that sets TF. */
	if (host_cpu_is_intel && !get_kvm_intel_param_bool("monitor_trap"))
		SKIP(return, "Bochs traps one instruction late after a SYSRET that sets TF");

	allow_syscall(vcpu, syscall_own_tf_steps[10], X86_EFLAGS_TF);
	if (!compare(self->tool, vcpu, &syscall_own_tf_case, 30 + HANDLER_STEPS, 29, BIT_ULL(30)))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled_of(vcpu)[0].vector, DB_VECTOR);
	TEST_ASSERT_EQ(handled_of(vcpu)[0].rip, syscall_own_tf_steps[8]);
}

TEST_F(kvmi_step_flags, soft_interrupt)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	if (!compare(self->tool, vcpu, &soft_interrupt_case, 0, 0, 0))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled->vector, SOFT_VECTOR);
	TEST_ASSERT_EQ(handled->rip, soft_interrupt_steps[2]);
	kvmi_check_no_tf(handled->flags);
	kvmi_check_no_tf(handled->saved_flags);
}

TEST_F(kvmi_step_flags, user_interrupt)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	allow_syscall(vcpu, user_interrupt_steps[8], 0);
	allow_vector(self->vm, SOFT_VECTOR, user_interrupt_steps[9], 3);
	allow_vector(self->vm, BP_VECTOR, user_interrupt_steps[24], 3);
	if (!compare(self->tool, vcpu, &user_interrupt_case, 0, 0, 0))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled[0].vector, SOFT_VECTOR);
	TEST_ASSERT_EQ(handled[0].rip, user_interrupt_steps[5]);
	TEST_ASSERT_EQ(handled[1].vector, BP_VECTOR);
	TEST_ASSERT_EQ(handled[1].rip, user_interrupt_steps[6]);
	kvmi_check_no_tf(handled[0].saved_flags);
	kvmi_check_no_tf(handled[1].saved_flags);
}

TEST_F(kvmi_step_flags, denied_interrupt)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	allow_syscall(vcpu, denied_interrupt_steps[8], 0);
	allow_vector(self->vm, SOFT_VECTOR, denied_interrupt_steps[9], 0);
	if (!compare(self->tool, vcpu, &denied_interrupt_case, 0, 0, 0))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled->vector, GP_VECTOR);
	TEST_ASSERT_EQ(handled->rip, denied_interrupt_steps[4]);
	kvmi_check_no_tf(handled->saved_flags);
}

TEST_F(kvmi_step_flags, mov_ss)
{
	TEST_ASSERT(compare(self->tool, self->vcpu[0], &mov_ss_case, 0, 0, 0), "The host errs");
}

TEST_F(kvmi_step_flags, sti)
{
	TEST_ASSERT(compare(self->tool, self->vcpu[0], &sti_case, 0, 0, 0), "The host errs");
}

TEST_F(kvmi_step_flags, shadow)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	u64 *log = log_of(vcpu);

	allow_syscall(vcpu, shadow_steps[14], 0);
	TEST_ASSERT(compare(self->tool, vcpu, &shadow_case, 0, 0, 0), "The host errs");
	kvmi_check_no_tf(log[0]);
	kvmi_check_no_tf(log[1]);
	kvmi_check_no_tf(log[2]);
}

TEST_F(kvmi_step_flags, shadow_interrupt)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	kvmi_set_gate(self->vm, BP_VECTOR, shadow_interrupt_steps[23]);
	if (!compare(self->tool, vcpu, &shadow_interrupt_case, 0, 0, 0))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled[0].vector, SOFT_VECTOR);
	TEST_ASSERT_EQ(handled[1].vector, BP_VECTOR);
	kvmi_check_no_tf(handled[0].saved_flags);
	kvmi_check_no_tf(handled[1].saved_flags);
}

TEST_F(kvmi_step_flags, own_flags)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	if (!compare(self->tool, vcpu, &own_flags_case, 20 + HANDLER_STEPS, 19,
		     BIT_ULL(20) | BIT_ULL(11)))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled->vector, DB_VECTOR);
	TEST_ASSERT_EQ(handled->rip, own_flags_steps[4]);
	TEST_ASSERT(handled->saved_flags & X86_EFLAGS_TF, "The guest's TF is lost");
	TEST_ASSERT(handled->dr6 & DR6_BS, "DR6.BS is not set");
}

TEST_F(kvmi_step_flags, own_interrupt)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);
	int i;

	kvmi_set_gate(self->vm, SOFT_VECTOR, own_interrupt_steps[13 + HANDLER_STEPS]);
	kvmi_set_gate(self->vm, BP_VECTOR, own_interrupt_steps[13 + 2 * HANDLER_STEPS]);
	if (!compare(self->tool, vcpu, &own_interrupt_case, 13 + 3 * HANDLER_STEPS, 12,
		     BIT_ULL(13)))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled[0].vector, DB_VECTOR);
	TEST_ASSERT_EQ(handled[1].vector, SOFT_VECTOR);
	for (i = 0; i < 3; i++)
		TEST_ASSERT(handled[i].saved_flags & X86_EFLAGS_TF, "The guest's TF is lost");
}

TEST_F(kvmi_step_flags, int1)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	if (!compare(self->tool, vcpu, &int1_case, 0, 0, 0))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled->vector, DB_VECTOR);
	TEST_ASSERT_EQ(handled->rip, int1_steps[2]);
	kvmi_check_no_tf(handled->saved_flags);
}

TEST_F(kvmi_step_flags, code_breakpoint)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	if (!compare(self->tool, vcpu, &code_breakpoint_case, 0, 0, 0))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled[0].vector, DB_VECTOR);
	TEST_ASSERT_EQ(handled[0].rip, code_breakpoint_steps[5]);
	TEST_ASSERT_EQ(handled[0].dr6 & (DR6_BS | 0xf), 1);
	TEST_ASSERT_EQ(handled[1].vector, 0);
}

TEST_F(kvmi_step_flags, data_breakpoint)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct handled *handled = handled_of(vcpu);

	if (!compare(self->tool, vcpu, &data_breakpoint_case, 0, 0, 0))
		SKIP(return, MISPLACED);
	TEST_ASSERT_EQ(handled[0].vector, DB_VECTOR);
	TEST_ASSERT_EQ(handled[0].rip, data_breakpoint_steps[6]);
	TEST_ASSERT_EQ(handled[0].dr6 & (DR6_BS | 0xf), 2);
	TEST_ASSERT_EQ(handled[1].vector, 0);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
