// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VCPU_GET_XCR, KVMI_VCPU_GET_XSAVE, KVMI_VCPU_SET_XSAVE,
 * and KVMI_VCPU_EVENT_XSETBV.
 */
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

/* Offsets in the XSAVE area. */
#define XSAVE_MXCSR		24
#define XSAVE_XMM7		(160 + 7 * 16)
#define XSAVE_XSTATE_BV		512
#define XSAVE_XCOMP_BV		520
#define XSAVE_YMM7_HIGH		(576 + 7 * 16)

/* Enough to tell them from exits that have other reasons. */
#define XSETBVS			400

KVMI_TEST_SUITE(kvmi_xsave, 2);

/* Counts while the guest keeps something in a vector register. */
static u64 guest_rounds;
static u64 guest_vector[4] __aligned(32);

/* Until the lower half of XMM7 changes. All of it, or of YMM7, is stored then. */
static u64 guest_hold_xmm(u64 value, u64 unused)
{
	kvmi_guest_may_spin();
	asm volatile("movdqu %[vector], %%xmm7\n\t"
		     "1: lock incq %[rounds]\n\t"
		     "movq %%xmm7, %%rax\n\t"
		     "cmp %%rax, %[value]\n\t"
		     "je 1b\n\t"
		     "movdqu %%xmm7, %[vector]\n\t"
		     : [vector]"+m"(guest_vector), [rounds]"+m"(guest_rounds)
		     : [value]"r"(value) : "rax", "xmm7", "cc");
	return 0;
}

static u64 guest_hold_ymm(u64 value, u64 unused)
{
	kvmi_guest_may_spin();
	asm volatile("vmovdqu %[vector], %%ymm7\n\t"
		     "1: lock incq %[rounds]\n\t"
		     "movq %%xmm7, %%rax\n\t"
		     "cmp %%rax, %[value]\n\t"
		     "je 1b\n\t"
		     "vmovdqu %%ymm7, %[vector]\n\t"
		     "vzeroupper\n\t"
		     : [vector]"+m"(guest_vector), [rounds]"+m"(guest_rounds)
		     : [value]"r"(value) : "rax", "xmm7", "cc");
	return 0;
}

static u64 guest_xsetbv(u64 xcr, u64 value)
{
	return kvmi_guest_try("xsetbv", "a"((u32)value), "d"(value >> 32), "c"((u32)xcr));
}

/* The same by KVM's emulator. */
static u64 guest_emulate_xsetbv(u64 xcr, u64 value)
{
	return kvmi_guest_try_fep("xsetbv", "a"((u32)value), "d"(value >> 32), "c"((u32)xcr));
}

static u64 guest_xgetbv(u64 a0, u64 a1)
{
	return xgetbv(0);
}

/* Returns what is in rbx after the write. */
static u64 guest_xsetbv_rbx(u64 value, u64 rbx)
{
	asm volatile("xsetbv" : "+b"(rbx)
		     : "a"((u32)value), "d"(value >> 32), "c"(0) : "memory");
	return rbx;
}

static u64 guest_xsetbv_often(u64 a0, u64 a1)
{
	u64 value = xgetbv(0);
	int i;

	for (i = 0; i < XSETBVS; i++)
		xsetbv(0, value);
	return 0;
}

/*
 * KVM always intercepts XSETBV. Some emulators do not let it: its statistics
 * show that.
 */
static bool xsetbv_is_intercepted(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 exits;

	vm = vm_create_with_vcpus(1, NULL, &vcpu);
	exits = kvmi_count_exits(vcpu, guest_xsetbv_often, 0, 0);
	kvm_vm_free(vm);

	return exits >= XSETBVS;
}

static const char not_intercepted[] =
	"KVM's statistics show: the host cannot intercept XSETBV";

static u64 vmm_xcr0(struct kvm_vcpu *vcpu)
{
	struct kvm_xcrs xcrs = {};

	vcpu_xcrs_get(vcpu, &xcrs);
	TEST_ASSERT_EQ(xcrs.nr_xcrs, 1);
	TEST_ASSERT_EQ(xcrs.xcrs[0].xcr, 0);

	return xcrs.xcrs[0].value;
}

static u64 tool_xcr0(struct kvmi_tool *tool, u16 vcpu)
{
	u64 value = ~0ull;

	TEST_ASSERT_EQ(kvmi_get_xcr(tool, vcpu, 0, &value), 0);
	return value;
}

TEST_F(kvmi_xsave, get_xcr)
{
	u64 xcr0[] = { kvm_cpu_supported_xcr0(), XFEATURE_MASK_FP,
		       XFEATURE_MASK_FP | XFEATURE_MASK_SSE };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	int i;

	for (i = 0; i < ARRAY_SIZE(xcr0); i++) {
		xcrs.xcrs[0].value = xcr0[i];
		vcpu_xcrs_set(vcpu, &xcrs);
		TEST_ASSERT_EQ(vmm_xcr0(vcpu), xcr0[i]);
		kvmi_start_agent(&runner, vcpu);
		TEST_ASSERT_EQ(tool_xcr0(self->tool, 0), xcr0[i]);
		TEST_ASSERT_EQ(kvmi_call(vcpu, guest_xgetbv, 0, 0), xcr0[i]);
		kvmi_stop(&runner);
	}
}

TEST_F(kvmi_xsave, get_xcr_errors)
{
	struct kvmi_vcpu_get_xcr bad[9] = { { .xcr = 1 }, { .xcr = 0xff } };
	struct kvmi_vcpu_get_xcr_reply rpl;
	struct kvmi_vcpu_get_xcr req = {};
	struct kvmi_runner runner;
	int i;

	for (i = 0; i < sizeof(bad[0].padding); i++)
		bad[2 + i].padding[i] = 1;

	kvmi_start_agent(&runner, self->vcpu[0]);
	kvmi_expect_errors(self->tool, KVMI_VCPU_GET_XCR, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EINVAL);
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_GET_XCR);

	/* What is missing is zero. */
	for (i = 0; i <= sizeof(req); i++) {
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_XCR, 0, &req, i,
					     &rpl, sizeof(rpl)), 0);
		TEST_ASSERT_EQ(rpl.value, kvm_cpu_supported_xcr0());
	}
	kvmi_stop(&runner);
}

static u64 *xsave_word(struct kvm_xsave *xsave, int offset)
{
	return (void *)xsave->region + offset;
}

/* But for a word that says which of it the processor has found worth saving. */
static bool same_xsave(struct kvm_xsave *a, struct kvm_xsave *b)
{
	*xsave_word(a, XSAVE_XSTATE_BV) = 0;
	*xsave_word(b, XSAVE_XSTATE_BV) = 0;

	return !memcmp(a->region, b->region, sizeof(a->region));
}

/* It is what the VMM gets. */
TEST_F(kvmi_xsave, get_xsave)
{
	struct kvm_xsave seen, vmm;
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	memset(&seen, 0xff, sizeof(seen));
	vcpu_arch_set_entry_point(self->vcpu[0], guest_hold_xmm);
	vcpu_xsave_get(self->vcpu[0], &vmm);
	*xsave_word(&vmm, XSAVE_XMM7) = 0x7777;
	*xsave_word(&vmm, XSAVE_XSTATE_BV) |= XFEATURE_MASK_FP | XFEATURE_MASK_SSE;
	vcpu_xsave_set(self->vcpu[0], &vmm);
	vcpu_xsave_get(self->vcpu[0], &vmm);
	TEST_ASSERT_EQ(*xsave_word(&vmm, XSAVE_XMM7), 0x7777);

	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);
	TEST_ASSERT_EQ(kvmi_get_xsave(self->tool, 0, &seen), 0);
	TEST_ASSERT(*xsave_word(&seen, XSAVE_XSTATE_BV) & XFEATURE_MASK_SSE, "No SSE");
	TEST_ASSERT(same_xsave(&seen, &vmm), "It is not what the VMM has set");
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_GET_XSAVE);

	/* It is the same when the VMM looks again. */
	kvmi_stop(&runner);
	vcpu_xsave_get(self->vcpu[0], &vmm);
	TEST_ASSERT(same_xsave(&seen, &vmm), "It is not what the VMM gets");
}

/* The guest has a value in a vector register, and nowhere else. */
static void hold(struct kvm_vcpu *vcpu, kvmi_guest_fn fn, const u64 *vector)
{
	u64 *rounds = addr_gva2hva(vcpu->vm, (gva_t)&guest_rounds);
	int ms = KVMI_TIMEOUT_MS;

	memcpy(addr_gva2hva(vcpu->vm, (gva_t)guest_vector), vector, sizeof(guest_vector));
	WRITE_ONCE(*rounds, 0);
	kvmi_call_begin(vcpu, fn, vector[0], 0);
	while (!READ_ONCE(*rounds) && ms--)
		usleep(1000);
	TEST_ASSERT(READ_ONCE(*rounds), "The guest does not run");
	memset(addr_gva2hva(vcpu->vm, (gva_t)guest_vector), 0, sizeof(guest_vector));
}

static void expect_vector(struct kvm_vcpu *vcpu, const u64 *expected, int words)
{
	const u64 *vector;

	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	vector = addr_gva2hva(vcpu->vm, (gva_t)guest_vector);
	while (words--)
		TEST_ASSERT(vector[words] == expected[words],
			    "Word %d of the register is %lx, expected %lx", words,
			    (unsigned long)vector[words], (unsigned long)expected[words]);
}

static void set_xmm7(struct kvm_xsave *xsave, const u64 *vector)
{
	memcpy(xsave_word(xsave, XSAVE_XMM7), vector, 16);
	*xsave_word(xsave, XSAVE_XSTATE_BV) |= XFEATURE_MASK_FP | XFEATURE_MASK_SSE;
}

static const u64 before[4] = {
	0x1111111122222222, 0x3333333344444444, 0x5555555566666666, 0x7777777788888888,
};

static const u64 after[4] = {
	0xaaaaaaaabbbbbbbb, 0xccccccccdddddddd, 0xeeeeeeeeffffffff, 0x9999999900000000,
};

/* What the guest has in its registers at this moment, and how it goes on. */
TEST_F(kvmi_xsave, live_registers)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_xsave xsave;
	struct kvmi_ev ev;

	kvmi_start_agent(&runner, vcpu);
	hold(vcpu, guest_hold_xmm, before);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 1), 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	memset(&xsave, 0, sizeof(xsave));
	TEST_ASSERT_EQ(kvmi_get_xsave(self->tool, 0, &xsave), 0);
	TEST_ASSERT(!memcmp(xsave_word(&xsave, XSAVE_XMM7), before, 16), "XMM7");
	TEST_ASSERT_EQ(*xsave_word(&xsave, XSAVE_XCOMP_BV), 0);

	/* Twice, and it is there at once for who asks. */
	set_xmm7(&xsave, before + 2);
	TEST_ASSERT_EQ(kvmi_set_xsave(self->tool, 0, &xsave), 0);
	set_xmm7(&xsave, after);
	TEST_ASSERT_EQ(kvmi_set_xsave(self->tool, 0, &xsave), 0);
	memset(&xsave, 0, sizeof(xsave));
	TEST_ASSERT_EQ(kvmi_get_xsave(self->tool, 0, &xsave), 0);
	TEST_ASSERT(!memcmp(xsave_word(&xsave, XSAVE_XMM7), after, 16), "XMM7");

	/* A signal, and the vCPU goes through the VMM. */
	kvmi_interrupt(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	expect_vector(vcpu, after, 2);
	kvmi_stop(&runner);
}

/* Without any event: the vCPU leaves the guest for the command. */
TEST_F(kvmi_xsave, running)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_xsave xsave;
	int i;

	kvmi_start_agent(&runner, vcpu);
	hold(vcpu, guest_hold_xmm, before);
	for (i = 0; i < 20; i++) {
		TEST_ASSERT_EQ(kvmi_get_xsave(self->tool, 0, &xsave), 0);
		TEST_ASSERT(!memcmp(xsave_word(&xsave, XSAVE_XMM7), before, 16), "XMM7");

		/* As it is. */
		TEST_ASSERT_EQ(kvmi_set_xsave(self->tool, 0, &xsave), 0);
	}
	TEST_ASSERT(!kvmi_call_is_done(vcpu), "The register has changed");
	set_xmm7(&xsave, after);
	TEST_ASSERT_EQ(kvmi_set_xsave(self->tool, 0, &xsave), 0);
	expect_vector(vcpu, after, 2);

	/* What was set stays when the tool goes. */
	hold(vcpu, guest_hold_xmm, before);
	TEST_ASSERT_EQ(kvmi_set_xsave(self->tool, 0, &xsave), 0);
	kvmi_unhook(self->vm);
	expect_vector(vcpu, after, 2);
	kvmi_stop(&runner);
}

TEST_F(kvmi_xsave, ymm)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_xsave xsave;

	if (!(kvm_cpu_supported_xcr0() & XFEATURE_MASK_YMM))
		SKIP(return, "KVM gives no AVX to guests on this host");

	kvmi_start_agent(&runner, vcpu);
	hold(vcpu, guest_hold_ymm, before);
	TEST_ASSERT_EQ(kvmi_get_xsave(self->tool, 0, &xsave), 0);
	TEST_ASSERT(*xsave_word(&xsave, XSAVE_XSTATE_BV) & XFEATURE_MASK_YMM,
		    "The upper halves are not there");
	TEST_ASSERT(!memcmp(xsave_word(&xsave, XSAVE_XMM7), before, 16), "XMM7");
	TEST_ASSERT(!memcmp(xsave_word(&xsave, XSAVE_YMM7_HIGH), before + 2, 16), "YMM7");
	memcpy(xsave_word(&xsave, XSAVE_YMM7_HIGH), after + 2, 16);
	set_xmm7(&xsave, after);
	TEST_ASSERT_EQ(kvmi_set_xsave(self->tool, 0, &xsave), 0);
	expect_vector(vcpu, after, 4);
	kvmi_stop(&runner);
}

TEST_F(kvmi_xsave, set_xsave_errors)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	static const size_t lens[] = { 0, 1, 511, 576, 4088, 4095 };
	struct kvm_xsave good, bad[4], now;
	struct kvmi_runner runner;
	int i;

	kvmi_start_agent(&runner, vcpu);
	hold(vcpu, guest_hold_xmm, before);
	TEST_ASSERT_EQ(kvmi_get_xsave(self->tool, 0, &good), 0);
	set_xmm7(&good, after);

	for (i = 0; i < ARRAY_SIZE(lens); i++)
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_SET_XSAVE, 0, &good, lens[i],
					     NULL, 0), -KVM_EINVAL);
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_SET_XSAVE);

	/* What KVM refuses: no such state, compacted, reserved bits. */
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	*xsave_word(&bad[0], XSAVE_XSTATE_BV) |= BIT_ULL(62);
	*xsave_word(&bad[1], XSAVE_XCOMP_BV) = BIT_ULL(63) | 3;
	*xsave_word(&bad[2], XSAVE_XCOMP_BV + 8) = 1;
	*xsave_word(&bad[3], XSAVE_MXCSR) |= BIT_ULL(31);
	kvmi_expect_errors(self->tool, KVMI_VCPU_SET_XSAVE, bad, sizeof(bad[0]),
			   ARRAY_SIZE(bad), -KVM_EINVAL);

	/* Nothing has changed. */
	TEST_ASSERT_EQ(kvmi_get_xsave(self->tool, 0, &now), 0);
	TEST_ASSERT(!memcmp(xsave_word(&now, XSAVE_XMM7), before, 16), "XMM7");
	TEST_ASSERT(!kvmi_call_is_done(vcpu), "The register has changed");
	TEST_ASSERT_EQ(kvmi_set_xsave(self->tool, 0, &good), 0);
	expect_vector(vcpu, after, 2);
	kvmi_stop(&runner);
}

static void check_xsetbv_event(struct kvmi_tool *tool, const struct kvmi_ev *ev, u64 old,
			       u64 new)
{
	const struct kvmi_vcpu_event_xsetbv *payload = (void *)ev->payload;
	static const u8 zero[7];

	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT_EQ(payload->xcr, 0);
	TEST_ASSERT(!memcmp(payload->padding, zero, sizeof(zero)), "Padding");
	TEST_ASSERT_EQ(payload->old_value, old);
	TEST_ASSERT_EQ(payload->new_value, new);

	/* It has not happened yet. */
	TEST_ASSERT_EQ(tool_xcr0(tool, ev->common.vcpu), old);
}

static void expect_xsetbv(struct kvmi_tool *tool, u16 vcpu, u64 old, u64 new,
			  struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_XSETBV, ev);
	check_xsetbv_event(tool, ev, old, new);
}

static u64 xgetbv_of(struct kvm_vcpu *vcpu)
{
	return kvmi_call(vcpu, guest_xgetbv, 0, 0);
}

static void enable(struct kvmi_tool *tool, u16 vcpu)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, vcpu, KVMI_VCPU_EVENT_XSETBV, 1), 0);
}

/* A write that the tool does not hear of. */
static void write_unwatched(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u64 value)
{
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_xsetbv, 0, value), 0);
	TEST_ASSERT_EQ(xgetbv_of(vcpu), value);
	if (tool)
		kvmi_expect_quiet(tool);
}

static void write_watched(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u64 old, u64 new)
{
	struct kvmi_ev ev;

	kvmi_call_begin(vcpu, guest_xsetbv, 0, new);
	expect_xsetbv(tool, vcpu->id, old, new, &ev);
	TEST_ASSERT(!kvmi_call_is_done(vcpu), "The guest did not wait");
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(xgetbv_of(vcpu), new);
	TEST_ASSERT_EQ(tool_xcr0(tool, vcpu->id), new);
}

#define SMALL_XCR0	XFEATURE_MASK_FP

TEST_F(kvmi_xsave, xsetbv)
{
	u64 all = kvm_cpu_supported_xcr0();
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	int round;

	if (!xsetbv_is_intercepted())
		SKIP(return, "%s", not_intercepted);

	kvmi_start_agent(&runner, vcpu);
	write_unwatched(self->tool, vcpu, SMALL_XCR0);
	write_unwatched(self->tool, vcpu, all);
	enable(self->tool, 0);
	for (round = 0; round < 3; round++) {
		write_watched(self->tool, vcpu, all, SMALL_XCR0);
		write_watched(self->tool, vcpu, SMALL_XCR0, all);
	}

	/* Unchanged; and what KVM does not accept. */
	write_unwatched(self->tool, vcpu, all);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_xsetbv, 0, 0), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_xsetbv, 0, XFEATURE_MASK_SSE), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_xsetbv, 0, all | BIT_ULL(62)), GP_VECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_xsetbv, 1, SMALL_XCR0), GP_VECTOR);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(xgetbv_of(vcpu), all);

	/* The VMM has the last word, and it can change its mind. */
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_XSETBV, 0);
	write_unwatched(self->tool, vcpu, SMALL_XCR0);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_XSETBV, 1), -KVM_EPERM);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_XSETBV, 1);
	write_watched(self->tool, vcpu, SMALL_XCR0, all);

	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_XSETBV, 0), 0);
	write_unwatched(self->tool, vcpu, SMALL_XCR0);
	kvmi_stop(&runner);
}

TEST_F(kvmi_xsave, xsetbv_emulator)
{
	u64 all = kvm_cpu_supported_xcr0();
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	if (!is_forced_emulation_enabled)
		SKIP(return, "The parameter kvm.force_emulation_prefix is off");

	kvmi_start_agent(&runner, vcpu);
	enable(self->tool, 0);
	kvmi_call_begin(vcpu, guest_emulate_xsetbv, 0, SMALL_XCR0);
	expect_xsetbv(self->tool, 0, all, SMALL_XCR0, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(xgetbv_of(vcpu), SMALL_XCR0);

	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_emulate_xsetbv, 0, SMALL_XCR0), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_emulate_xsetbv, 0, 0), GP_VECTOR);
	kvmi_expect_quiet(self->tool);

	kvmi_call_begin(vcpu, guest_emulate_xsetbv, 0, all);
	expect_xsetbv(self->tool, 0, SMALL_XCR0, all, &ev);
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(xgetbv_of(vcpu), all);
	kvmi_stop(&runner);
}

/* Replies that this event does not have: as CONTINUE. */
TEST_F(kvmi_xsave, xsetbv_bad_reply)
{
	u64 all = kvm_cpu_supported_xcr0();
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int bad;

	if (!xsetbv_is_intercepted())
		SKIP(return, "%s", not_intercepted);

	kvmi_start_agent(&runner, vcpu);
	for (bad = 0; bad < 3; bad++) {
		enable(self->tool, 0);
		kvmi_call_begin(vcpu, guest_xsetbv, 0, SMALL_XCR0);
		expect_xsetbv(self->tool, 0, all, SMALL_XCR0, &ev);
		switch (bad) {
		case 0:
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
			break;
		case 1:
			kvmi_reply_value(self->tool, &ev, all);
			break;
		case 2:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, "", 1);
			break;
		}
		kvmi_expect_closed(self->tool);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(xgetbv_of(vcpu), SMALL_XCR0);
		write_unwatched(NULL, vcpu, all);
		self->tool = kvmi_rehook(self->tool);
	}
	kvmi_stop(&runner);
}

TEST_F(kvmi_xsave, xsetbv_crash)
{
	u64 all = kvm_cpu_supported_xcr0();
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	if (!xsetbv_is_intercepted())
		SKIP(return, "%s", not_intercepted);

	kvmi_start_agent(&runner, vcpu);
	enable(self->tool, 0);
	kvmi_call_begin(vcpu, guest_xsetbv, 0, SMALL_XCR0);
	expect_xsetbv(self->tool, 0, all, SMALL_XCR0, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_expect_crash(&runner);

	/* It has not happened. */
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
	TEST_ASSERT_EQ(vmm_xcr0(vcpu), all);

	/* A VMM that goes on nevertheless has it executed again. */
	kvmi_start(&runner, vcpu);
	expect_xsetbv(self->tool, 0, all, SMALL_XCR0, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
	TEST_ASSERT_EQ(xgetbv_of(vcpu), SMALL_XCR0);
	kvmi_stop(&runner);
}

/* A signal ends the waiting; registers that the tool has set are not lost. */
TEST_F(kvmi_xsave, xsetbv_interrupted)
{
	u64 all = kvm_cpu_supported_xcr0();
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u64 old, new;
	int i;

	if (!xsetbv_is_intercepted())
		SKIP(return, "%s", not_intercepted);

	kvmi_start_agent(&runner, vcpu);
	enable(self->tool, 0);
	for (i = 0; i < 4; i++) {
		old = i & 1 ? SMALL_XCR0 : all;
		new = i & 1 ? all : SMALL_XCR0;
		kvmi_call_begin(vcpu, guest_xsetbv_rbx, new, 0x1111);
		expect_xsetbv(self->tool, 0, old, new, &ev);
		regs = ev.common.arch.regs;
		TEST_ASSERT_EQ(regs.rbx, 0x1111);
		regs.rbx = 0x2222;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		if (i == 2) {
			kvmi_interrupt(&runner);
			kvmi_interrupt(&runner);
			kvmi_expect_quiet(self->tool);
		}
		if (i == 3) {
			kvmi_stop(&runner);
			vcpu_regs_get(vcpu, &regs);
			TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
			TEST_ASSERT_EQ(vmm_xcr0(vcpu), old);
		}
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		if (i == 3) {
			kvmi_check_version(self->tool);
			kvmi_start(&runner, vcpu);
		}
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0x2222);
		TEST_ASSERT_EQ(xgetbv_of(vcpu), new);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

TEST_F(kvmi_xsave, xsetbv_lost_while_waiting)
{
	u64 all = kvm_cpu_supported_xcr0();
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int closed;

	if (!xsetbv_is_intercepted())
		SKIP(return, "%s", not_intercepted);

	kvmi_start_agent(&runner, vcpu);
	for (closed = 0; closed < 2; closed++) {
		enable(self->tool, 0);
		kvmi_call_begin(vcpu, guest_xsetbv, 0, SMALL_XCR0);
		expect_xsetbv(self->tool, 0, all, SMALL_XCR0, &ev);
		if (closed)
			kvmi_close(self->tool);
		else
			kvmi_unhook(self->vm);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0);
		TEST_ASSERT_EQ(xgetbv_of(vcpu), SMALL_XCR0);
		write_unwatched(NULL, vcpu, all);
		self->tool = kvmi_rehook(self->tool);
	}
	write_unwatched(self->tool, vcpu, SMALL_XCR0);
	kvmi_stop(&runner);
}

/* Enabled for each vCPU alone, and both can wait at once. */
TEST_F(kvmi_xsave, xsetbv_two_vcpus)
{
	u64 all = kvm_cpu_supported_xcr0();
	struct kvmi_ev ev[2], first;
	struct kvmi_runner runner[2];
	int i;

	if (!xsetbv_is_intercepted())
		SKIP(return, "%s", not_intercepted);

	for (i = 0; i < 2; i++)
		kvmi_start_agent(&runner[i], self->vcpu[i]);
	enable(self->tool, 0);
	write_unwatched(self->tool, self->vcpu[1], SMALL_XCR0);
	write_unwatched(self->tool, self->vcpu[1], all);
	enable(self->tool, 1);

	for (i = 0; i < 2; i++)
		kvmi_call_begin(self->vcpu[i], guest_xsetbv, 0, SMALL_XCR0);
	for (i = 0; i < 2; i++) {
		TEST_ASSERT(kvmi_next_event(self->tool, &first), "Closed");
		TEST_ASSERT_EQ(first.event.event, KVMI_VCPU_EVENT_XSETBV);
		TEST_ASSERT(first.common.vcpu < 2, "vCPU %u", first.common.vcpu);
		ev[first.common.vcpu] = first;
	}
	for (i = 1; i >= 0; i--) {
		check_xsetbv_event(self->tool, &ev[i], all, SMALL_XCR0);
		kvmi_reply(self->tool, &ev[i], KVMI_EVENT_ACTION_CONTINUE);
		TEST_ASSERT_EQ(kvmi_call_end(self->vcpu[i]), 0);
		TEST_ASSERT_EQ(xgetbv_of(self->vcpu[i]), SMALL_XCR0);
	}
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_XSAVE));

	return test_harness_run(argc, argv);
}
