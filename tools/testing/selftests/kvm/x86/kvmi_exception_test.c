// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VCPU_INJECT_EXCEPTION and KVMI_VCPU_EVENT_TRAP.
 */
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

#define NR_VECTORS	32

/* How often a connection ends with an injection that is not done. */
#define LOST_ROUNDS	300

/* Where a #PF is told to have come from: the guest has nothing there. */
#define FAULT_GVA	0x123456789000

KVMI_TEST_SUITE(kvmi_exception, 2);

/* What a vCPU of the guest does, and what its handler has seen. */
static struct guest_state {
	u64 spins;		/* the assembler code below knows the first three */
	u64 stop;
	u64 hypercall;
	u64 handled;
	u64 count[NR_VECTORS];
	u64 vector;
	u64 error_code;
	u64 cr2;
	u64 rip;
	u64 rbx;
} guest_states[2];

/* The vCPU is in r15. */
static void guest_handler(struct ex_regs *regs)
{
	struct guest_state *state = &guest_states[regs->r15];

	state->count[regs->vector]++;
	state->vector = regs->vector;
	state->error_code = regs->error_code;
	state->cr2 = get_cr2();
	state->rip = regs->rip;
	state->rbx = regs->rbx;
	WRITE_ONCE(state->handled, state->handled + 1);
}

/*
 * Exceptions can come at any place here. The state is in r14. The hypercall is
 * replaced by that of the host's vendor.
 */
extern u8 guest_hypercall[], guest_hypercall_insn[], guest_after_hypercall[],
	  guest_spin[], guest_spin_end[], guest_int3[];

asm(".pushsection .text\n\t"
	"guest_hypercall:\n\t"
	"mov $" __stringify(KVM_HC_XEN_HVM_OP) ", %eax\n\t"
	"mov $" __stringify(KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT) ", %edi\n\t"
	"xor %esi, %esi\n\t"
	"guest_hypercall_insn: vmcall\n\t"
	"guest_after_hypercall: mov %rax, 16(%r14)\n\t"
	"jmp guest_spin\n\t"
	"guest_int3: int3\n\t"
	"guest_spin: sti\n\t"
	"1: lock incq (%r14)\n\t"
	"cmpq $0, 8(%r14)\n\t"
	"je 1b\n\t"
	"cli\n\t"
	"jmp kvmi_guest_done\n\t"
	"guest_spin_end:\n\t"
	".popsection");

static struct guest_state *state_of(struct kvm_vcpu *vcpu)
{
	return addr_gva2hva(vcpu->vm, (gva_t)&guest_states[vcpu->id]);
}

static void set_guest(struct kvm_vcpu *vcpu, u8 *entry)
{
	u8 *insn = addr_gva2hva(vcpu->vm, (gva_t)guest_hypercall_insn);
	struct kvm_regs regs;
	int vector;

	for (vector = 0; vector < NR_VECTORS; vector++)
		vm_install_exception_handler(vcpu->vm, vector, guest_handler);
	if (host_cpu_is_amd_compatible)
		insn[2] = 0xd9;		/* vmmcall */

	vcpu_arch_set_entry_point(vcpu, entry);
	vcpu_regs_get(vcpu, &regs);
	regs.r14 = (u64)&guest_states[vcpu->id];
	regs.r15 = vcpu->id;
	regs.rbx = 0x1111;
	regs.rsp = (regs.rsp & ~0xfull) - 8;
	vcpu_regs_set(vcpu, &regs);
}

/* In a pause event, before the guest has executed anything. */
static void start_paused(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
			 struct kvmi_runner *runner, struct kvmi_ev *ev)
{
	set_guest(vcpu, guest_spin);
	kvmi_start_paused(tool, runner, vcpu, ev);
	TEST_ASSERT_EQ(ev->common.arch.regs.rip, (u64)guest_spin);
}

static void wait_spin(struct kvm_vcpu *vcpu)
{
	struct guest_state *state = state_of(vcpu);
	u64 spins = READ_ONCE(state->spins);
	int ms = KVMI_TIMEOUT_MS;

	while (READ_ONCE(state->spins) == spins && ms--)
		usleep(1000);
	TEST_ASSERT(READ_ONCE(state->spins) != spins, "The guest does not run");
}

/* Pause a vCPU that runs. */
static void pause_vcpu(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, struct kvmi_ev *ev)
{
	wait_spin(vcpu);
	TEST_ASSERT_EQ(kvmi_pause(tool, vcpu->id, 1), 0);
	kvmi_expect_event(tool, vcpu->id, KVMI_VCPU_EVENT_PAUSE, ev);
	TEST_ASSERT(ev->common.arch.regs.rip >= (u64)guest_spin &&
		    ev->common.arch.regs.rip < (u64)guest_spin_end,
		    "rip %llx", ev->common.arch.regs.rip);
}

static void stop_guest(struct kvmi_runner *runner)
{
	WRITE_ONCE(state_of(runner->vcpu)->stop, 1);
	kvmi_expect_done(runner);
}

static void check_trap(const struct kvmi_ev *ev, u8 nr, u32 error_code, u64 address)
{
	const struct kvmi_vcpu_event_trap *payload = (void *)ev->payload;

	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT_EQ(payload->nr, nr);
	TEST_ASSERT_EQ(payload->padding1, 0);
	TEST_ASSERT_EQ(payload->padding2, 0);
	TEST_ASSERT_EQ(payload->error_code, error_code);
	TEST_ASSERT_EQ(payload->address, address);
}

static void expect_trap(struct kvmi_tool *tool, u16 vcpu, u8 nr, u32 error_code,
			u64 address, struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_TRAP, ev);
	check_trap(ev, nr, error_code, address);
}

/*
 * The guest's handler has seen @handled exceptions, the last one like this; at
 * any place if @rip is 0.
 */
static void expect_handled(struct kvm_vcpu *vcpu, u64 handled, u8 nr, u32 error_code,
			   u64 rip)
{
	struct guest_state *state = state_of(vcpu);
	int ms = KVMI_TIMEOUT_MS;

	while (READ_ONCE(state->handled) < handled && ms--)
		usleep(1000);
	wait_spin(vcpu);
	TEST_ASSERT_EQ(READ_ONCE(state->handled), handled);
	TEST_ASSERT_EQ(state->vector, nr);
	TEST_ASSERT_EQ(state->error_code, error_code);
	if (rip)
		TEST_ASSERT_EQ(state->rip, rip);
}

/* #UD, #GP, ... from the event @ev on; the tool changes nothing else. */
static void inject_from(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, struct kvmi_ev *ev,
			u8 nr, u32 error_code, u64 address)
{
	bool has_error_code = nr == 8 || (nr >= 10 && nr <= 14) || nr == 17;
	u64 handled = state_of(vcpu)->handled;
	struct kvmi_ev trap;

	TEST_ASSERT_EQ(kvmi_inject(tool, vcpu->id, nr, error_code, address), 0);
	kvmi_expect_quiet(tool);
	kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(tool, vcpu->id, nr, has_error_code ? error_code : 0,
		    nr == PF_VECTOR ? address : 0, &trap);
	TEST_ASSERT_EQ(READ_ONCE(state_of(vcpu)->handled), handled);
	kvmi_reply(tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
	expect_handled(vcpu, handled + 1, nr, has_error_code ? error_code : 0,
		       ev->common.arch.regs.rip);
	kvmi_expect_quiet(tool);
}

TEST_F(kvmi_exception, errors)
{
	static const struct kvmi_vcpu_inject_exception bad[] = {
		{ .nr = UD_VECTOR, .padding1 = 1 },
		{ .nr = UD_VECTOR, .padding2 = 1 },
		{ .nr = UD_VECTOR, .padding2 = 0x8000 },
		/* NMI, and what is reserved. */
		{ .nr = 2 }, { .nr = 9 }, { .nr = 15 }, { .nr = 20 }, { .nr = 21 },
		{ .nr = 22 }, { .nr = 23 }, { .nr = 24 }, { .nr = 25 }, { .nr = 26 },
		{ .nr = 27 }, { .nr = 28 }, { .nr = 29 }, { .nr = 30 }, { .nr = 31 },
		/* No exceptions. */
		{ .nr = 32 }, { .nr = 0x80 }, { .nr = 255 },
	};
	static const struct kvmi_vcpu_inject_exception good = { .nr = UD_VECTOR };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;

	start_paused(self->tool, vcpu, &runner, &ev);
	kvmi_expect_errors(self->tool, KVMI_VCPU_INJECT_EXCEPTION, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EINVAL);
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_INJECT_EXCEPTION);

	/* It makes no sense without the event, and that is looked at first. */
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_TRAP, 0);
	kvmi_expect_errors(self->tool, KVMI_VCPU_INJECT_EXCEPTION, &good, sizeof(good), 1,
			   -KVM_EPERM);
	kvmi_expect_errors(self->tool, KVMI_VCPU_INJECT_EXCEPTION, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EPERM);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_TRAP, 1);

	/* Single steps hold back exceptions. */
	TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 1), 0);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), -KVM_EBUSY);
	TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 0), 0);

	/* None of these has had an effect. */
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	pause_vcpu(self->tool, vcpu, &ev);
	TEST_ASSERT_EQ(state_of(vcpu)->handled, 0);
	kvmi_expect_quiet(self->tool);

	/* One at a time. */
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), 0);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), -KVM_EBUSY);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, GP_VECTOR, 0, 0), -KVM_EBUSY);
	kvmi_interrupt(&runner);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, GP_VECTOR, 0, 0), -KVM_EBUSY);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(self->tool, 0, UD_VECTOR, 0, 0, &trap);
	kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
	expect_handled(vcpu, 1, UD_VECTOR, 0, ev.common.arch.regs.rip);

	/* Now another one. */
	pause_vcpu(self->tool, vcpu, &ev);
	inject_from(self->tool, vcpu, &ev, GP_VECTOR, 0x18, 0);
	stop_guest(&runner);
}

/* What is missing is zero. */
TEST_F(kvmi_exception, short_request)
{
	static const struct kvmi_vcpu_inject_exception req = {
		.nr = PF_VECTOR,
		.error_code = 0x10,
		.address = 0x1122334455667788,
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;
	size_t lens[] = { 0, 1, 5, 12, 16 };
	u64 address;
	u8 nr;
	int i;

	start_paused(self->tool, vcpu, &runner, &ev);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		nr = lens[i] ? PF_VECTOR : DE_VECTOR;
		address = lens[i] < 12 ? 0 : lens[i] < 16 ? 0x55667788 : req.address;
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_INJECT_EXCEPTION, 0, &req,
					     lens[i], NULL, 0), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		expect_trap(self->tool, 0, nr, lens[i] < 5 ? 0 : 0x10, address, &trap);
		kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
		expect_handled(vcpu, i + 1, nr, lens[i] < 5 ? 0 : 0x10,
			       ev.common.arch.regs.rip);
		if (nr == PF_VECTOR)
			TEST_ASSERT_EQ(state_of(vcpu)->cr2, address);
		pause_vcpu(self->tool, vcpu, &ev);
	}
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	stop_guest(&runner);
}

/* Each that can be delivered anywhere; the error code only if there is one. */
TEST_F(kvmi_exception, vectors)
{
	static const struct {
		u8 nr;
		u32 error_code;
	} cases[] = {
		{ DE_VECTOR, 0x1234 }, { DB_VECTOR, 0x1234 }, { BR_VECTOR, 0x1234 },
		{ UD_VECTOR, 0x1234 }, { NM_VECTOR, 0x1234 }, { DF_VECTOR, 0 },
		{ TS_VECTOR, 0x18 }, { NP_VECTOR, 0x28 }, { SS_VECTOR, 0x10 },
		{ GP_VECTOR, 0 }, { GP_VECTOR, 0x7ffc }, { PF_VECTOR, 0 }, { PF_VECTOR, 2 },
		{ PF_VECTOR, 0x17 }, { MF_VECTOR, 0x1234 }, { AC_VECTOR, 0 },
		{ MC_VECTOR, 0x1234 }, { XM_VECTOR, 0x1234 },
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct guest_state *state = state_of(vcpu);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 cr2 = 0;
	int i;

	start_paused(self->tool, vcpu, &runner, &ev);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		inject_from(self->tool, vcpu, &ev, cases[i].nr, cases[i].error_code,
			    FAULT_GVA + i);
		if (cases[i].nr == PF_VECTOR)
			cr2 = FAULT_GVA + i;
		TEST_ASSERT_EQ(state->cr2, cr2);
		pause_vcpu(self->tool, vcpu, &ev);
	}
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	stop_guest(&runner);
	TEST_ASSERT_EQ(state->handled, ARRAY_SIZE(cases));
}

#define NO_VECTOR	0xff

/*
 * As if by INT3 or INTO: the handler gets an rip behind it. On AMD that takes an
 * instruction of this kind; without it nothing happens, and the tool is told so.
 */
static void inject_soft(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u8 nr, u8 *entry)
{
	bool works = !host_cpu_is_amd_compatible || entry == guest_int3;
	struct guest_state *state = state_of(vcpu);
	u64 handled = state->handled, count = state->count[nr];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;

	state->stop = 0;
	set_guest(vcpu, entry);
	kvmi_start_paused(tool, &runner, vcpu, &ev);
	TEST_ASSERT_EQ(ev.common.arch.regs.rip, (u64)entry);
	TEST_ASSERT_EQ(kvmi_inject(tool, 0, nr, 0x1234, FAULT_GVA), 0);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(tool, 0, works ? nr : NO_VECTOR, 0, 0, &trap);
	TEST_ASSERT_EQ(READ_ONCE(state->handled), handled);
	TEST_ASSERT_EQ(trap.common.arch.regs.rip, (u64)entry);
	kvmi_reply(tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
	if (works)
		expect_handled(vcpu, handled + 1, nr, 0, (u64)entry + 1);
	wait_spin(vcpu);
	TEST_ASSERT_EQ(state->handled, handled + works);
	TEST_ASSERT_EQ(state->count[nr], count + works);
	kvmi_expect_quiet(tool);
	stop_guest(&runner);
}

TEST_F(kvmi_exception, breakpoint_on_int3)
{
	inject_soft(self->tool, self->vcpu[0], BP_VECTOR, guest_int3);
}

TEST_F(kvmi_exception, breakpoint_anywhere)
{
	inject_soft(self->tool, self->vcpu[0], BP_VECTOR, guest_spin);
}

TEST_F(kvmi_exception, overflow_anywhere)
{
	inject_soft(self->tool, self->vcpu[0], OF_VECTOR, guest_spin);
}

/* The vCPU runs, and waits for nothing. */
TEST_F(kvmi_exception, running)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct guest_state *state = state_of(vcpu);
	struct kvmi_runner runner;
	struct kvmi_ev trap;
	u64 round;

	set_guest(vcpu, guest_spin);
	kvmi_start(&runner, vcpu);
	for (round = 1; round < 10; round++) {
		wait_spin(vcpu);
		TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, PF_VECTOR, 2, FAULT_GVA + round), 0);
		expect_trap(self->tool, 0, PF_VECTOR, 2, FAULT_GVA + round, &trap);
		kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
		expect_handled(vcpu, round, PF_VECTOR, 2, 0);
		TEST_ASSERT(state->rip >= (u64)guest_spin && state->rip < (u64)guest_spin_end,
			    "rip %lx", (unsigned long)state->rip);
		TEST_ASSERT_EQ(state->cr2, FAULT_GVA + round);
	}
	stop_guest(&runner);
}

/* It comes behind the hypercall, with the registers that the tool has set. */
TEST_F(kvmi_exception, in_hypercall)
{
	static const u8 vectors[] = { PF_VECTOR, GP_VECTOR, UD_VECTOR, DB_VECTOR };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct guest_state *state = state_of(vcpu);
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;
	struct kvm_regs regs;
	u32 error_code;
	int i;

	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		u8 nr = vectors[i];

		error_code = nr == PF_VECTOR || nr == GP_VECTOR ? 4 : 0;
		set_guest(vcpu, guest_hypercall);
		state->hypercall = ~0ull;
		state->stop = 0;
		kvmi_enable_and_start(self->tool, &runner, vcpu, KVMI_VCPU_EVENT_HYPERCALL);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
		TEST_ASSERT_EQ(ev.common.arch.regs.rip, (u64)guest_hypercall_insn);

		TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, nr, error_code, FAULT_GVA), 0);
		regs = ev.common.arch.regs;
		regs.rbx = 0x2222 + i;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		expect_trap(self->tool, 0, nr, error_code, nr == PF_VECTOR ? FAULT_GVA : 0,
			    &trap);
		TEST_ASSERT_EQ(READ_ONCE(state->handled), i);
		kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);

		expect_handled(vcpu, i + 1, nr, error_code, (u64)guest_after_hypercall);
		TEST_ASSERT_EQ(state->rbx, 0x2222 + i);
		TEST_ASSERT_EQ(state->hypercall, 0);
		kvmi_expect_quiet(self->tool);
		stop_guest(&runner);
	}
}

/* Registers that were set with the pause reply: it comes where the tool has put it. */
TEST_F(kvmi_exception, set_registers)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;
	struct kvm_regs regs;

	start_paused(self->tool, vcpu, &runner, &ev);
	regs = ev.common.arch.regs;
	regs.rip = (u64)guest_after_hypercall;
	regs.rbx = 0x2222;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, GP_VECTOR, 0, 0), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(self->tool, 0, GP_VECTOR, 0, 0, &trap);

	/* And with the reply to the event that tells of it. */
	regs = trap.common.arch.regs;
	TEST_ASSERT_EQ(regs.rbx, 0x2222);
	regs.rbx = 0x3333;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
	expect_handled(vcpu, 1, GP_VECTOR, 0, (u64)guest_after_hypercall);
	TEST_ASSERT_EQ(state_of(vcpu)->rbx, 0x3333);
	stop_guest(&runner);
}

/* It comes before any other event of this vCPU. */
TEST_F(kvmi_exception, trap_comes_first)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;
	u64 rip;
	int i;

	start_paused(self->tool, vcpu, &runner, &ev);
	rip = ev.common.arch.regs.rip;
	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(self->tool, 0, UD_VECTOR, 0, 0, &trap);
	kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
	for (i = 0; i < 3; i++) {
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	expect_handled(vcpu, 1, UD_VECTOR, 0, rip);
	kvmi_expect_quiet(self->tool);
	stop_guest(&runner);
}

/* No enabling is needed, and disabling does nothing. But the VMM can say no. */
TEST_F(kvmi_exception, allowed)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	start_paused(self->tool, vcpu, &runner, &ev);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_TRAP, 0), 0);
	inject_from(self->tool, vcpu, &ev, UD_VECTOR, 0, 0);

	/* It says so when the exception is under way: that is delivered. */
	pause_vcpu(self->tool, vcpu, &ev);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, GP_VECTOR, 8, 0), 0);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_TRAP, 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_handled(vcpu, 2, GP_VECTOR, 8, ev.common.arch.regs.rip);
	kvmi_expect_quiet(self->tool);

	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_TRAP, 1);
	pause_vcpu(self->tool, vcpu, &ev);
	inject_from(self->tool, vcpu, &ev, UD_VECTOR, 0, 0);
	stop_guest(&runner);
}

/* Something else is on its way: the tool is told, and tries again. */
TEST_F(kvmi_exception, something_else_pending)
{
	static const struct {
		u8 nr;
		bool has_error_code;
		u32 error_code;
	} cases[] = {
		{ UD_VECTOR, false, 0 },
		{ GP_VECTOR, true, 0x28 },
		{ NP_VECTOR, true, 0x30 },
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct guest_state *state = state_of(vcpu);
	struct kvm_vcpu_events events;
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;
	u64 handled;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		handled = state->handled;
		state->stop = 0;
		set_guest(vcpu, guest_spin);
		vcpu_events_get(vcpu, &events);
		events.exception.injected = 1;
		events.exception.nr = cases[i].nr;
		events.exception.has_error_code = cases[i].has_error_code;
		events.exception.error_code = cases[i].error_code;
		vcpu_events_set(vcpu, &events);
		kvmi_start_paused(self->tool, &runner, vcpu, &ev);

		TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, PF_VECTOR, 2, FAULT_GVA), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		expect_trap(self->tool, 0, cases[i].nr, cases[i].error_code, 0, &trap);
		TEST_ASSERT_EQ(READ_ONCE(state->handled), handled);
		kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
		expect_handled(vcpu, handled + 1, cases[i].nr, cases[i].error_code,
			       (u64)guest_spin);
		TEST_ASSERT_EQ(state->count[PF_VECTOR], i);

		pause_vcpu(self->tool, vcpu, &ev);
		inject_from(self->tool, vcpu, &ev, PF_VECTOR, 2, FAULT_GVA);
		TEST_ASSERT_EQ(state->count[PF_VECTOR], i + 1);
		stop_guest(&runner);
	}
}

/* A signal ends the waiting: the exception is neither lost nor doubled. */
TEST_F(kvmi_exception, interrupted)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;

	start_paused(self->tool, vcpu, &runner, &ev);

	/* Before it is injected. */
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, PF_VECTOR, 2, FAULT_GVA), 0);
	kvmi_stop(&runner);
	kvmi_expect_quiet(self->tool);
	kvmi_start(&runner, vcpu);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(self->tool, 0, PF_VECTOR, 2, FAULT_GVA, &trap);

	/* While the tool is told of it. */
	kvmi_interrupt(&runner);
	kvmi_interrupt(&runner);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(state_of(vcpu)->handled, 0);
	kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
	expect_handled(vcpu, 1, PF_VECTOR, 2, ev.common.arch.regs.rip);
	TEST_ASSERT_EQ(state_of(vcpu)->cr2, FAULT_GVA);
	kvmi_expect_quiet(self->tool);

	/* The reply comes while the vCPU is out. */
	pause_vcpu(self->tool, vcpu, &ev);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, GP_VECTOR, 0x10, 0), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(self->tool, 0, GP_VECTOR, 0x10, 0, &trap);
	kvmi_stop(&runner);
	kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_check_version(self->tool);
	kvmi_start(&runner, vcpu);
	expect_handled(vcpu, 2, GP_VECTOR, 0x10, ev.common.arch.regs.rip);
	kvmi_expect_quiet(self->tool);
	stop_guest(&runner);
}

TEST_F(kvmi_exception, crash)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;

	start_paused(self->tool, vcpu, &runner, &ev);
	TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_trap(self->tool, 0, UD_VECTOR, 0, 0, &trap);
	kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_CRASH);
	kvmi_expect_crash(&runner);
	TEST_ASSERT_EQ(state_of(vcpu)->handled, 0);
	TEST_ASSERT_EQ(state_of(vcpu)->spins, 0);
}

/* Replies that this event does not have: as CONTINUE. */
TEST_F(kvmi_exception, bad_reply)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;
	int bad;

	start_paused(self->tool, vcpu, &runner, &ev);
	for (bad = 0; bad < 3; bad++) {
		TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		expect_trap(self->tool, 0, UD_VECTOR, 0, 0, &trap);
		switch (bad) {
		case 0:
			kvmi_reply(self->tool, &trap, KVMI_EVENT_ACTION_RETRY);
			break;
		case 1:
			kvmi_reply(self->tool, &trap, 3);
			break;
		case 2:
			kvmi_reply_value(self->tool, &trap, 0);
			break;
		}
		kvmi_expect_closed(self->tool);
		expect_handled(vcpu, bad + 1, UD_VECTOR, 0, ev.common.arch.regs.rip);
		self->tool = kvmi_rehook(self->tool);
		pause_vcpu(self->tool, vcpu, &ev);
	}
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	stop_guest(&runner);
}

/* The connection ends with an exception on its way; the next one can inject. */
TEST_F(kvmi_exception, lost)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct guest_state *state = state_of(vcpu);
	struct kvmi_runner runner;
	struct kvmi_ev ev, trap;
	int how, in_trap, closed;
	u64 handled;

	start_paused(self->tool, vcpu, &runner, &ev);
	for (how = 0; how < 4; how++) {
		in_trap = how & 1;
		closed = how & 2;
		handled = state->handled;
		TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), 0);
		if (in_trap) {
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			expect_trap(self->tool, 0, UD_VECTOR, 0, 0, &trap);
		}
		if (closed)
			kvmi_close(self->tool);
		else
			kvmi_unhook(self->vm);

		wait_spin(vcpu);
		if (in_trap)
			expect_handled(vcpu, handled + 1, UD_VECTOR, 0,
				       ev.common.arch.regs.rip);
		TEST_ASSERT(READ_ONCE(state->handled) - handled <= 1, "It came twice");

		self->tool = kvmi_rehook(self->tool);
		pause_vcpu(self->tool, vcpu, &ev);
		inject_from(self->tool, vcpu, &ev, GP_VECTOR, 0x20, 0);
		pause_vcpu(self->tool, vcpu, &ev);
	}
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	stop_guest(&runner);
}

/*
 * The vCPU begins with what it was asked for while the connection ends: the next tool, whose
 * first event is that of the pause, is told nothing of it. When it was, that was in one of 100
 * to 3000 rounds.
 */
TEST_F(kvmi_exception, lost_meanwhile)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int round, i;

	start_paused(self->tool, vcpu, &runner, &ev);
	for (round = 0; round < LOST_ROUNDS; round++) {
		TEST_ASSERT_EQ(kvmi_inject(self->tool, 0, UD_VECTOR, 0, 0), 0);
		/* It has other things to do first, more or less of them. */
		for (i = 0; i < round % 64; i++)
			kvmi_send_vcpu(self->tool, KVMI_VCPU_GET_INFO, 0, NULL, 0);
		if (round & 1)
			kvmi_close(self->tool);
		self->tool = kvmi_rehook(self->tool);
		pause_vcpu(self->tool, vcpu, &ev);
	}
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	stop_guest(&runner);
}

/* Different exceptions for two vCPUs at once. */
TEST_F(kvmi_exception, two_vcpus)
{
	static const u8 vectors[] = { PF_VECTOR, GP_VECTOR };
	struct kvmi_ev ev[2], trap[2], first;
	struct kvmi_runner runner[2];
	int i, round;

	for (i = 0; i < 2; i++)
		start_paused(self->tool, self->vcpu[i], &runner[i], &ev[i]);
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 2; i++)
			TEST_ASSERT_EQ(kvmi_inject(self->tool, i, vectors[i], i + 1, FAULT_GVA),
				       0);
		for (i = 0; i < 2; i++)
			kvmi_reply(self->tool, &ev[i], KVMI_EVENT_ACTION_CONTINUE);
		for (i = 0; i < 2; i++) {
			TEST_ASSERT(kvmi_next_event(self->tool, &first), "Closed");
			TEST_ASSERT_EQ(first.event.event, KVMI_VCPU_EVENT_TRAP);
			TEST_ASSERT(first.common.vcpu < 2, "vCPU %u", first.common.vcpu);
			trap[first.common.vcpu] = first;
		}
		check_trap(&trap[0], PF_VECTOR, 1, FAULT_GVA);
		check_trap(&trap[1], GP_VECTOR, 2, 0);
		for (i = 0; i < 2; i++) {
			int n = i ^ (round & 1);

			TEST_ASSERT_EQ(state_of(self->vcpu[n])->handled, round);
			kvmi_reply(self->tool, &trap[n], KVMI_EVENT_ACTION_CONTINUE);
			expect_handled(self->vcpu[n], round + 1, vectors[n], n + 1,
				       ev[n].common.arch.regs.rip);
		}
		kvmi_expect_quiet(self->tool);
		for (i = 0; i < 2; i++)
			pause_vcpu(self->tool, self->vcpu[i], &ev[i]);
	}
	for (i = 0; i < 2; i++) {
		kvmi_reply(self->tool, &ev[i], KVMI_EVENT_ACTION_CONTINUE);
		stop_guest(&runner[i]);
	}
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
