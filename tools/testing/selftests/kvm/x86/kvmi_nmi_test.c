// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection and NMIs: one that comes while the guest handles another is
 * delivered behind its IRET, and none is lost, with events and with single steps.
 */
#include "apic.h"
#include "kvm_test_harness.h"
#include "kvmi_step.h"
#include "test_util.h"

#define ROUNDS		5
#define STEPS		20
#define STEPS_MAX	5000

KVMI_TEST_SUITE(kvmi_nmi, 1);

static struct guest_state {
	u64 loops;
	u64 nmis;		/* so many have come */
	u64 allowed;		/* so many handlers may return */
	u64 traps;		/* how often TF was seen */
	u64 stop;
} guest_state;

static void guest_check_flags(u64 flags)
{
	if (flags & X86_EFLAGS_TF)
		guest_state.traps++;
}

/* All that can be an event, and different each time. */
static void guest_act(u64 value)
{
	struct desc_ptr dt;

	wrmsr(MSR_LSTAR, value);
	set_cr4(get_cr4() ^ X86_CR4_TSD);
	asm volatile("sgdt %0" : "=m"(dt));
}

static void guest_nmi_handler(struct ex_regs *regs)
{
	u64 nr = guest_state.nmis + 1;

	guest_check_flags(regs->rflags);
	WRITE_ONCE(guest_state.nmis, nr);
	guest_act(0x1000000 + nr);
	while (READ_ONCE(guest_state.allowed) < nr)
		GUEST_SYNC(nr);
}

static void guest_main(void)
{
	u64 flags;

	x2apic_enable();
	while (!READ_ONCE(guest_state.stop)) {
		WRITE_ONCE(guest_state.loops, guest_state.loops + 1);
		/* In the shadow of STI no NMI may come. */
		asm volatile("cli; sti; pushfq; pop %0" : "=r"(flags));
		guest_check_flags(flags);
		guest_act(guest_state.loops);
		asm volatile("cli; sti; sgdt -10(%rsp)");
	}
	asm volatile("cli");
	GUEST_DONE();
}

static struct guest_state *state_of(struct kvm_vm *vm)
{
	return addr_gva2hva(vm, (gva_t)&guest_state);
}

static void send_nmi(struct kvm_vm *vm)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA, .data = APIC_DM_NMI };

	TEST_ASSERT_EQ(__vm_ioctl(vm, KVM_SIGNAL_MSI, &msi), 1);
}

static void answer(struct kvmi_tool *tool, const struct kvmi_ev *ev)
{
	TEST_ASSERT(!(ev->common.arch.regs.rflags & X86_EFLAGS_TF), "The tool sees TF");
	kvmi_let_pass(tool, ev);
}

/* Answer an event, if there is one. */
static bool answer_one(struct kvmi_tool *tool)
{
	struct kvmi_ev ev;

	if (list_empty(&tool->events) && !kvmi_readable(tool, 1))
		return false;

	TEST_ASSERT(kvmi_next_event(tool, &ev), "Closed");
	answer(tool, &ev);

	return true;
}

/* Answer events until something is that high. Returns the number of events. */
static int answer_until(struct kvmi_tool *tool, u64 *counter, u64 at_least)
{
	int ms = KVMI_TIMEOUT_MS, events = 0;

	while (READ_ONCE(*counter) < at_least && ms) {
		if (answer_one(tool))
			events++;
		else
			ms--;
	}
	TEST_ASSERT(READ_ONCE(*counter) >= at_least, "%lu instead of %lu",
		    (unsigned long)READ_ONCE(*counter), (unsigned long)at_least);

	return events;
}

static void start(struct kvmi_tool *tool, struct kvmi_runner *runner, struct kvm_vcpu *vcpu)
{
	vm_install_exception_handler(vcpu->vm, NMI_VECTOR, guest_nmi_handler);
	vcpu_arch_set_entry_point(vcpu, guest_main);
	kvmi_start(runner, vcpu);
	answer_until(tool, &state_of(vcpu->vm)->loops, 10);
}

/* The guest is in its handler for one, and another one is pending. */
static void send_two(struct kvmi_tool *tool, struct kvmi_runner *runner)
{
	struct guest_state *state = state_of(runner->vcpu->vm);
	u64 nmis = state->nmis;

	send_nmi(runner->vcpu->vm);
	answer_until(tool, &state->nmis, nmis + 1);
	send_nmi(runner->vcpu->vm);
	answer_until(tool, &runner->syncs, READ_ONCE(runner->syncs) + 5);
	TEST_ASSERT_EQ(READ_ONCE(state->nmis), nmis + 1);
}

/* Both have been delivered, and nothing else was. */
static void expect_two(struct kvmi_tool *tool, struct kvmi_runner *runner, u64 nmis)
{
	struct guest_state *state = state_of(runner->vcpu->vm);

	WRITE_ONCE(state->allowed, nmis + 1);
	answer_until(tool, &state->nmis, nmis + 2);
	WRITE_ONCE(state->allowed, nmis + 2);
	answer_until(tool, &state->loops, READ_ONCE(state->loops) + 10);
	TEST_ASSERT_EQ(READ_ONCE(state->nmis), nmis + 2);
	TEST_ASSERT_EQ(READ_ONCE(state->traps), 0);
}

static void stop(struct kvmi_tool *tool, struct kvmi_runner *runner)
{
	WRITE_ONCE(state_of(runner->vcpu->vm)->stop, 1);
	while (READ_ONCE(runner->running))
		answer_one(tool);
	kvmi_expect_done(runner);
}

static void enable_events(struct kvmi_tool *tool)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(tool, 0, MSR_LSTAR, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_CR, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_cr(tool, 0, 4, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_DESCRIPTOR, 1), 0);
}

/* As it is without anything; it also maps the memory that the guest needs. */
TEST_F(kvmi_nmi, hooked)
{
	struct guest_state *state = state_of(self->vm);
	struct kvmi_runner runner;
	int round;

	start(self->tool, &runner, self->vcpu[0]);
	for (round = 0; round < ROUNDS; round++) {
		u64 nmis = state->nmis;

		send_two(self->tool, &runner);
		expect_two(self->tool, &runner, nmis);
	}
	kvmi_expect_quiet(self->tool);
	stop(self->tool, &runner);
}

/* Events in the handlers, and directly behind them. */
TEST_F(kvmi_nmi, events)
{
	struct guest_state *state = state_of(self->vm);
	struct kvmi_runner runner;
	int round;

	start(self->tool, &runner, self->vcpu[0]);
	enable_events(self->tool);
	for (round = 0; round < ROUNDS; round++) {
		u64 nmis = state->nmis;

		send_two(self->tool, &runner);
		expect_two(self->tool, &runner, nmis);
		TEST_ASSERT(answer_until(self->tool, &state->loops,
					 READ_ONCE(state->loops) + 10) >= 30, "Events lack");
	}

	/* The tool goes while one is pending. */
	for (round = 0; round < ROUNDS; round++) {
		u64 nmis = state->nmis;

		send_two(self->tool, &runner);
		self->tool = kvmi_rehook(self->tool);
		expect_two(self->tool, &runner, nmis);
		enable_events(self->tool);
	}
	stop(self->tool, &runner);
}

/* The vCPU waits in a pause event; from now on it is stepped. */
static void begin_steps(struct kvmi_tool *tool, struct kvmi_ev *ev)
{
	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 1), 0);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PAUSE, ev);
	TEST_ASSERT_EQ(kvmi_control_singlestep(tool, 0, 1), 0);
}

/* The next step; the vCPU waits with it. */
static void step(struct kvmi_tool *tool, struct kvmi_ev *ev)
{
	kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_next_step(tool, 0, ev);
	TEST_ASSERT(!(ev->common.arch.regs.rflags & X86_EFLAGS_TF), "The tool sees TF");
}

static void end_steps(struct kvmi_tool *tool, struct kvmi_ev *ev)
{
	TEST_ASSERT_EQ(kvmi_control_singlestep(tool, 0, 0), 0);
	kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
}

/* One that comes while the vCPU is stepped is held back. */
TEST_F(kvmi_nmi, while_stepped)
{
	struct guest_state *state = state_of(self->vm);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int round, i;

	start(self->tool, &runner, self->vcpu[0]);
	for (round = 0; round < ROUNDS; round++) {
		u64 nmis = state->nmis;

		begin_steps(self->tool, &ev);
		send_nmi(self->vm);
		for (i = 0; i < STEPS + round; i++)
			step(self->tool, &ev);
		TEST_ASSERT_EQ(READ_ONCE(state->nmis), nmis);
		end_steps(self->tool, &ev);
		answer_until(self->tool, &state->nmis, nmis + 1);

		/* The other comes in its handler. */
		send_nmi(self->vm);
		expect_two(self->tool, &runner, nmis);
	}
	kvmi_expect_quiet(self->tool);
	stop(self->tool, &runner);
}

/* The handler's IRET is a step, and the NMI that it lets in is held back. */
TEST_F(kvmi_nmi, stepped_iret)
{
	struct guest_state *state = state_of(self->vm);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int round, steps;
	u64 nmis, loops;

	start(self->tool, &runner, self->vcpu[0]);
	for (round = 0; round < ROUNDS; round++) {
		nmis = state->nmis;
		send_two(self->tool, &runner);
		begin_steps(self->tool, &ev);
		WRITE_ONCE(state->allowed, nmis + 1);
		loops = state->loops;
		for (steps = 0; READ_ONCE(state->loops) == loops; steps++) {
			TEST_ASSERT(steps < STEPS_MAX, "The handler does not return");
			step(self->tool, &ev);
		}
		TEST_ASSERT_EQ(READ_ONCE(state->nmis), nmis + 1);
		end_steps(self->tool, &ev);
		expect_two(self->tool, &runner, nmis);
	}
	kvmi_expect_quiet(self->tool);
	stop(self->tool, &runner);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
