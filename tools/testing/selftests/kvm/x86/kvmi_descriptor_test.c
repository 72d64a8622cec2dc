// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VCPU_EVENT_DESCRIPTOR.
 */
#include "kvm_test_harness.h"
#include "kvmi_step.h"
#include "test_util.h"

/* What KVM's selftests have in the GDT, and what is added here. */
#define DATA_SELECTOR		0x10
#define LDT_SELECTOR		0x30
#define TSS_SELECTOR		0x40

#define SYSTEM_LDT		2
#define SYSTEM_TSS		9

/* Instructions of the guest, to see how many of them are intercepted. */
#define STORES			400

#define UNMAPPED_GVA		0x7000000000

KVMI_TEST_SUITE(kvmi_descriptor, 2);

static u64 pack(struct desc_ptr desc)
{
	return desc.address | (u64)desc.size << 48;
}

/* What the guest can do. Stores return what is stored, loads an exception. */
static u64 guest_sgdt(u64 a0, u64 a1)
{
	return pack(get_gdt());
}

static u64 guest_sidt(u64 a0, u64 a1)
{
	return pack(get_idt());
}

static u64 guest_sldt(u64 a0, u64 a1)
{
	u16 selector = 0x5555;

	asm volatile("sldt %0" : "=m"(selector));
	return selector;
}

static u64 guest_str(u64 a0, u64 a1)
{
	u64 selector = ~0ull;

	asm volatile("str %0" : "+r"(selector));
	return (u16)selector;
}

static u64 guest_lgdt(u64 address, u64 size)
{
	struct desc_ptr desc = { .address = address, .size = size };

	asm volatile("lgdt %0" : : "m"(desc));
	return 0;
}

static u64 guest_lidt(u64 address, u64 size)
{
	struct desc_ptr desc = { .address = address, .size = size };

	set_idt(&desc);
	return 0;
}

static u64 guest_lldt(u64 selector, u64 a1)
{
	return kvmi_guest_try("lldt %%ax", "a"(selector));
}

static u64 guest_ltr(u64 selector, u64 a1)
{
	return kvmi_guest_try("ltr %%ax", "a"(selector));
}

static u64 guest_sgdt_fault(u64 gva, u64 a1)
{
	return kvmi_guest_try("sgdt (%%rdi)", "D"(gva));
}

/* At a known place, and with a register that the tool can change. (And for ring 3.) */
extern u8 guest_str_insn[], guest_after_str[], guest_user[];

static noinline u64 guest_str_at(u64 rax, u64 rbx)
{
	asm volatile("guest_str_insn: str %%rax\n\t"
		     "guest_after_str:\n\t" : "+a"(rax), "+b"(rbx));
	return rax | rbx << 32;
}

static u64 guest_store_often(u64 a0, u64 a1)
{
	u64 gdt = guest_sgdt(0, 0);
	int i;

	for (i = 1; i < STORES; i++)
		if (guest_sgdt(0, 0) != gdt)
			return 1;
	return 0;
}

static const struct {
	u8 descriptor;
	kvmi_guest_fn store;
} registers[] = {
	{ KVMI_DESC_IDTR, guest_sidt },
	{ KVMI_DESC_GDTR, guest_sgdt },
	{ KVMI_DESC_LDTR, guest_sldt },
	{ KVMI_DESC_TR, guest_str },
};

static void check_descriptor_event(const struct kvmi_ev *ev, u8 descriptor, u8 write)
{
	const struct kvmi_vcpu_event_descriptor *payload = (void *)ev->payload;
	static const u8 zero[6];

	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT_EQ(payload->descriptor, descriptor);
	TEST_ASSERT_EQ(payload->write, write);
	TEST_ASSERT(!memcmp(payload->padding, zero, sizeof(zero)), "Padding");
}

static void expect_descriptor(struct kvmi_tool *tool, u16 vcpu, u8 descriptor, u8 write,
			      struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_DESCRIPTOR, ev);
	check_descriptor_event(ev, descriptor, write);
}

static void enable(struct kvmi_tool *tool, u16 vcpu)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, vcpu, KVMI_VCPU_EVENT_DESCRIPTOR, 1), 0);
}

static void disable(struct kvmi_tool *tool, u16 vcpu)
{
	TEST_ASSERT_EQ(kvmi_control_event(tool, vcpu, KVMI_VCPU_EVENT_DESCRIPTOR, 0), 0);
}

/* One event, which the tool does not mind: returns what the guest gets. */
static u64 call_watched(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, u8 descriptor,
			u8 write, kvmi_guest_fn fn, u64 a0, u64 a1)
{
	struct kvmi_ev ev;
	u64 ret;

	kvmi_call_begin(vcpu, fn, a0, a1);
	expect_descriptor(tool, vcpu->id, descriptor, write, &ev);
	TEST_ASSERT(!kvmi_call_is_done(vcpu), "The guest did not wait");
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	ret = kvmi_call_end(vcpu);
	kvmi_expect_quiet(tool);

	return ret;
}

/* Descriptors that LLDT and LTR can load. */
static void set_descriptor(struct kvm_vm *vm, u16 selector, u8 type, u64 base, u32 limit)
{
	struct desc64 *desc = addr_gva2hva(vm, vm->arch.gdt + selector);

	memset(desc, 0, sizeof(*desc));
	desc->limit0 = limit;
	desc->limit1 = limit >> 16;
	desc->base0 = base;
	desc->base1 = base >> 16;
	desc->base2 = base >> 24;
	desc->base3 = base >> 32;
	desc->type = type;
	desc->p = 1;
}

static u64 gdtr(struct kvm_vm *vm, u16 limit)
{
	return pack((struct desc_ptr){ .address = vm->arch.gdt, .size = limit });
}

TEST_F(kvmi_descriptor, store)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 values[ARRAY_SIZE(registers)];
	int i, round;

	kvmi_start_agent(&runner, vcpu);
	for (i = 0; i < ARRAY_SIZE(registers); i++)
		values[i] = kvmi_call(vcpu, registers[i].store, 0, 0);
	TEST_ASSERT_EQ(values[1], gdtr(self->vm, getpagesize() - 1));
	kvmi_expect_quiet(self->tool);

	for (round = 0; round < 2; round++) {
		enable(self->tool, 0);
		for (i = 0; i < ARRAY_SIZE(registers); i++)
			TEST_ASSERT_EQ(call_watched(self->tool, vcpu, registers[i].descriptor, 0,
						    registers[i].store, 0, 0), values[i]);
		disable(self->tool, 0);
		for (i = 0; i < ARRAY_SIZE(registers); i++)
			TEST_ASSERT_EQ(kvmi_call(vcpu, registers[i].store, 0, 0), values[i]);
		kvmi_expect_quiet(self->tool);
	}

	/* The VMM has the last word, and it can change its mind. */
	enable(self->tool, 0);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_DESCRIPTOR, 0);
	for (i = 0; i < ARRAY_SIZE(registers); i++)
		TEST_ASSERT_EQ(kvmi_call(vcpu, registers[i].store, 0, 0), values[i]);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_DESCRIPTOR, 1),
		       -KVM_EPERM);
	kvmi_allow_event(self->vm, KVMI_VCPU_EVENT_DESCRIPTOR, 1);
	TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_GDTR, 0, guest_sgdt, 0, 0),
		       values[1]);
	kvmi_stop(&runner);
}

TEST_F(kvmi_descriptor, load)
{
	u64 gdt = self->vm->arch.gdt, idt = self->vm->arch.idt;
	u64 tss = self->vm->arch.tss;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	struct kvmi_ev ev;

	set_descriptor(self->vm, LDT_SELECTOR, SYSTEM_LDT, gdt, 0xff);
	set_descriptor(self->vm, TSS_SELECTOR, SYSTEM_TSS, tss, 0x67);
	kvmi_start_agent(&runner, vcpu);
	enable(self->tool, 0);

	/* It has not happened yet. */
	kvmi_call_begin(vcpu, guest_lgdt, gdt, 0x1ff);
	expect_descriptor(self->tool, 0, KVMI_DESC_GDTR, 1, &ev);
	TEST_ASSERT_EQ(ev.common.arch.sregs.gdt.base, gdt);
	TEST_ASSERT_EQ(ev.common.arch.sregs.gdt.limit, getpagesize() - 1);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_call_end(vcpu);

	call_watched(self->tool, vcpu, KVMI_DESC_IDTR, 1, guest_lidt, idt, 0xffe);
	TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_LDTR, 1, guest_lldt,
				    LDT_SELECTOR, 0), 0);
	TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_TR, 1, guest_ltr,
				    TSS_SELECTOR, 0), 0);

	/* What was loaded is there, for the guest and for the VMM. */
	disable(self->tool, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sgdt, 0, 0), gdtr(self->vm, 0x1ff));
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sidt, 0, 0), idt | 0xffeull << 48);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sldt, 0, 0), LDT_SELECTOR);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_str, 0, 0), TSS_SELECTOR);
	kvmi_stop(&runner);
	vcpu_sregs_get(vcpu, &sregs);
	TEST_ASSERT_EQ(sregs.gdt.limit, 0x1ff);
	TEST_ASSERT_EQ(sregs.idt.limit, 0xffe);
	TEST_ASSERT_EQ(sregs.ldt.selector, LDT_SELECTOR);
	TEST_ASSERT_EQ(sregs.ldt.base, gdt);
	TEST_ASSERT_EQ(sregs.tr.selector, TSS_SELECTOR);
	TEST_ASSERT_EQ(sregs.tr.base, tss);

	/* Not watched any more, the guest does it alone. */
	kvmi_start(&runner, vcpu);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_lldt, 0, 0), 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sldt, 0, 0), 0);
	kvmi_call(vcpu, guest_lgdt, gdt, 0xfff);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sgdt, 0, 0), gdtr(self->vm, 0xfff));
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* The exceptions of the instruction are those of a processor. */
TEST_F(kvmi_descriptor, faults)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;

	kvmi_start_agent(&runner, vcpu);
	enable(self->tool, 0);
	TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_LDTR, 1, guest_lldt,
				    DATA_SELECTOR, 0), GP_VECTOR | DATA_SELECTOR << 8);
	TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_TR, 1, guest_ltr,
				    DATA_SELECTOR, 0), GP_VECTOR | DATA_SELECTOR << 8);
	TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_GDTR, 0, guest_sgdt_fault,
				    UNMAPPED_GVA, 0), PF_VECTOR | 2 << 8);
	TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_GDTR, 0, guest_sgdt, 0, 0),
		       gdtr(self->vm, getpagesize() - 1));
	kvmi_stop(&runner);
}

/* With UMIP the same instructions are intercepted for KVM's own sake. */
TEST_F(kvmi_descriptor, umip)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	int i, round;

	if (!vcpu_cpuid_has(vcpu, X86_FEATURE_UMIP))
		SKIP(return, "KVM gives no UMIP to guests on this host");

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr4 |= X86_CR4_UMIP;
	vcpu_sregs_set(vcpu, &sregs);
	kvmi_start_agent(&runner, vcpu);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < ARRAY_SIZE(registers); i++)
			kvmi_call(vcpu, registers[i].store, 0, 0);
		kvmi_expect_quiet(self->tool);
		enable(self->tool, 0);
		TEST_ASSERT_EQ(call_watched(self->tool, vcpu, KVMI_DESC_GDTR, 0, guest_sgdt,
					    0, 0), gdtr(self->vm, getpagesize() - 1));
		disable(self->tool, 0);
	}

	/* Loads are not what UMIP is about. */
	kvmi_call(vcpu, guest_lgdt, self->vm->arch.gdt, 0x1ff);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sgdt, 0, 0), gdtr(self->vm, 0x1ff));
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sgdt, 0, 0), gdtr(self->vm, 0x1ff));
	kvmi_stop(&runner);
}

/*
 * Call code in ring 3, which ends with INT 0x80 or #GP: the exception as
 * kvmi_guest_try() has it. What it stores is in guest_stored.
 */
u64 guest_stored[2];
u64 guest_kernel_rsp;

#define USER_VECTOR	0x80
/* Pieces of code, 16 bytes each but for the last one. */
#define USER_INSNS	5
#define USER_AT(i)	((u64)guest_user + 16 * (i))
#define USER_DONE	USER_AT(5)
#define USER_GP		USER_AT(6)
#define CALL_USER	USER_AT(8)
#define USER_CODE(insn) insn " guest_stored(%rip)\n\tint $0x80\n\t.balign 16\n\t"

asm(".pushsection .text\n\t"
	".balign 16\n\t"
	"guest_user:\n\t"
	USER_CODE("sgdt")
	USER_CODE("sidt")
	USER_CODE("sldt")
	USER_CODE("str")
	USER_CODE("smsw")
	"xor %eax, %eax\n\t"
	"jmp 1f\n\t"
	".balign 16\n\t"
	"pop %rax\n\t"
	"shl $8, %rax\n\t"
	"or $13, %rax\n\t"
	".balign 16\n\t"
	"1: mov guest_kernel_rsp(%rip), %rsp\n\t"
	"jmp 2f\n\t"
	".balign 16\n\t"
	"push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
	"movq $-1, guest_stored(%rip)\n\t"
	"movq $-1, guest_stored+8(%rip)\n\t"
	"mov %rsp, guest_kernel_rsp(%rip)\n\t"
	"push $" __stringify(KVMI_USER_DS) "\n\t"
	"push guest_kernel_rsp(%rip)\n\t"
	"pushfq\n\t"
	"push $" __stringify(KVMI_USER_CS) "\n\t"
	"push %rdi\n\t"
	"iretq\n\t"
	"2: mov $0x10, %ecx\n\t"
	"mov %ecx, %ss\n\t"
	"pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
	"ret\n\t"
	".popsection");

/* What has come of each of them. */
struct user_results {
	struct {
		u64 exception;
		u64 stored[2];
	} insn[USER_INSNS];
};

/* The tool, if there is one, minds nothing. Returns the number of events. */
static int call_user_codes(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
			   struct user_results *results)
{
	u64 *stored = addr_gva2hva(vcpu->vm, (gva_t)guest_stored);
	int i, events = 0, ms = KVMI_TIMEOUT_MS;
	struct kvmi_ev ev;

	memset(results, 0, sizeof(*results));
	for (i = 0; i < USER_INSNS; i++) {
		kvmi_call_begin(vcpu, (kvmi_guest_fn)CALL_USER, USER_AT(i), 0);
		while (!kvmi_call_is_done(vcpu) && ms--) {
			if (!tool || !kvmi_readable(tool, 1)) {
				usleep(100);
				continue;
			}
			kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_DESCRIPTOR, &ev);
			TEST_ASSERT_EQ(ev.common.arch.regs.rip, USER_AT(i));
			kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			events++;
		}
		results->insn[i].exception = kvmi_call_end(vcpu);
		memcpy(results->insn[i].stored, stored, sizeof(results->insn[i].stored));
	}

	return events;
}

/*
 * Bochs 3.0 with several processors reports a wrong rip if the exit comes right
 * behind the exception: the instruction is executed again, in ring 0, where it is
 * allowed. Nothing else is excused.
 */
static bool lost_exception(const struct user_results *now, const struct user_results *want)
{
	bool lost = false;
	int i;

	for (i = 0; i < USER_INSNS; i++) {
		if (now->insn[i].exception == want->insn[i].exception)
			continue;
		if (!host_cpu_is_intel || now->insn[i].exception)
			return false;
		lost = true;
	}

	return lost;
}

static void expect_user_results(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
				const struct user_results *want, int events)
{
	int i, got, attempts = 10;
	struct user_results now;

	do {
		got = call_user_codes(tool, vcpu, &now);
	} while (lost_exception(&now, want) && --attempts);

	for (i = 0; i < USER_INSNS; i++) {
		TEST_ASSERT(now.insn[i].exception == want->insn[i].exception,
			    "Instruction %d: %lx instead of %lx", i,
			    (unsigned long)now.insn[i].exception,
			    (unsigned long)want->insn[i].exception);
		TEST_ASSERT(!memcmp(&now.insn[i], &want->insn[i], sizeof(now.insn[i])),
			    "Instruction %d stores something else", i);
	}
	/* Whether #GP comes before the intercept is up to the processor. */
	TEST_ASSERT(got == events || (got == 0 && want->insn[0].exception),
		    "%d events instead of %d", got, events);
}

/* In ring 3 the guest sees the same of UMIP, whatever the tool does. */
static void test_user(struct kvmi_tool **tool, struct kvm_vcpu *vcpu, bool umip)
{
	struct idt_entry *gates = addr_gva2hva(vcpu->vm, vcpu->vm->arch.idt);
	struct user_results want;
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	int i, round;

	kvmi_allow_user(vcpu->vm, vm_alloc_page(vcpu->vm) + 4096);
	kvmi_set_gate(vcpu->vm, USER_VECTOR, USER_DONE);
	gates[USER_VECTOR].dpl = 3;
	kvmi_set_gate(vcpu->vm, GP_VECTOR, USER_GP);
	vcpu_sregs_get(vcpu, &sregs);
	if (umip)
		sregs.cr4 |= X86_CR4_UMIP;
	vcpu_sregs_set(vcpu, &sregs);

	kvmi_unhook(vcpu->vm);
	kvmi_start_agent(&runner, vcpu);
	call_user_codes(NULL, vcpu, &want);
	for (i = 0; i < 4; i++)
		TEST_ASSERT_EQ(want.insn[i].exception, umip ? GP_VECTOR : 0);

	for (round = 0; round < 2; round++) {
		*tool = kvmi_rehook(*tool);
		expect_user_results(*tool, vcpu, &want, 0);
		enable(*tool, 0);
		expect_user_results(*tool, vcpu, &want, ARRAY_SIZE(registers));
		disable(*tool, 0);
		expect_user_results(*tool, vcpu, &want, 0);
		enable(*tool, 0);
		kvmi_unhook(vcpu->vm);
		expect_user_results(NULL, vcpu, &want, 0);
	}
	kvmi_stop(&runner);
}

TEST_F(kvmi_descriptor, user)
{
	test_user(&self->tool, self->vcpu[0], false);
}

TEST_F(kvmi_descriptor, user_umip)
{
	if (!vcpu_cpuid_has(self->vcpu[0], X86_FEATURE_UMIP))
		SKIP(return, "KVM gives no UMIP to guests on this host");

	test_user(&self->tool, self->vcpu[0], true);
}

/* RETRY: the instruction is executed again, or it is another one. */
TEST_F(kvmi_descriptor, retry)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u32 seq = 0;
	u64 tr;
	int i;

	kvmi_start_agent(&runner, vcpu);
	tr = kvmi_call(vcpu, guest_str, 0, 0);
	enable(self->tool, 0);

	kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
	for (i = 0; i < 5; i++) {
		expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
		TEST_ASSERT_EQ(ev.common.arch.regs.rip, (u64)guest_str_insn);
		TEST_ASSERT(!i || ev.hdr.seq == seq + 1, "Event %u after %u", ev.hdr.seq, seq);
		seq = ev.hdr.seq;
		if (i < 4)
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	}
	TEST_ASSERT(!kvmi_call_is_done(vcpu), "The guest did not wait");
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), tr | 0x1111ull << 32);

	/* Behind it, and so it is not executed. */
	kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
	expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
	regs = ev.common.arch.regs;
	regs.rip = (u64)guest_after_str;
	regs.rbx = 0x2222;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0x5555 | 0x2222ull << 32);
	kvmi_expect_quiet(self->tool);

	/* It is not intercepted any more when the guest executes it again. */
	kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
	expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
	disable(self->tool, 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), tr | 0x1111ull << 32);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Registers that the tool sets are those with which it is executed. */
TEST_F(kvmi_descriptor, set_registers)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u64 tr;
	int i;

	kvmi_start_agent(&runner, vcpu);
	tr = kvmi_call(vcpu, guest_str, 0, 0);
	enable(self->tool, 0);
	for (i = 0; i < 2; i++) {
		kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
		expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
		regs = ev.common.arch.regs;
		TEST_ASSERT_EQ(regs.rax, 0x5555);
		TEST_ASSERT_EQ(regs.rbx, 0x1111);
		regs.rax = 0xbad;
		regs.rbx = 0x2222;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		if (i)
			kvmi_interrupt(&runner);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), tr | 0x2222ull << 32);
		kvmi_expect_quiet(self->tool);
	}
	kvmi_stop(&runner);
}

/* A signal ends the waiting: nothing has happened then, and nothing is lost. */
TEST_F(kvmi_descriptor, interrupted)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	u32 seq;
	u64 tr;

	kvmi_start_agent(&runner, vcpu);
	tr = kvmi_call(vcpu, guest_str, 0, 0);
	enable(self->tool, 0);

	/* The reply comes while the vCPU is in KVM_RUN again. */
	kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
	expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
	seq = ev.hdr.seq;
	kvmi_interrupt(&runner);
	kvmi_interrupt(&runner);
	kvmi_expect_quiet(self->tool);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), tr | 0x1111ull << 32);

	/* It comes while the vCPU is out. */
	kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
	expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
	TEST_ASSERT_EQ(ev.hdr.seq, seq + 1);
	kvmi_stop(&runner);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, (u64)guest_str_insn);
	TEST_ASSERT_EQ(regs.rax, 0x5555);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_check_version(self->tool);
	kvmi_start(&runner, vcpu);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), tr | 0x1111ull << 32);
	kvmi_expect_quiet(self->tool);

	/* RETRY is carried out, too. */
	kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
	expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
	kvmi_interrupt(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
	TEST_ASSERT_EQ(ev.hdr.seq, seq + 3);
	regs = ev.common.arch.regs;
	regs.rip = (u64)guest_after_str;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_interrupt(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	TEST_ASSERT_EQ(kvmi_call_end(vcpu), 0x5555 | 0x1111ull << 32);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

TEST_F(kvmi_descriptor, crash)
{
	u64 gdt = self->vm->arch.gdt;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	kvmi_start_agent(&runner, vcpu);
	enable(self->tool, 0);
	kvmi_call_begin(vcpu, guest_lgdt, gdt, 0x1ff);
	expect_descriptor(self->tool, 0, KVMI_DESC_GDTR, 1, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_expect_crash(&runner);

	/* It has not happened. */
	vcpu_regs_get(vcpu, &regs);
	vcpu_sregs_get(vcpu, &sregs);
	TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
	TEST_ASSERT_EQ(sregs.gdt.limit, getpagesize() - 1);

	/* A VMM that goes on nevertheless has it executed again. */
	kvmi_start(&runner, vcpu);
	expect_descriptor(self->tool, 0, KVMI_DESC_GDTR, 1, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_call_end(vcpu);
	disable(self->tool, 0);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sgdt, 0, 0), gdtr(self->vm, 0x1ff));
	kvmi_stop(&runner);
}

/* Replies that this event does not have: as CONTINUE. */
TEST_F(kvmi_descriptor, bad_reply)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int bad;
	u64 tr;

	kvmi_start_agent(&runner, vcpu);
	tr = kvmi_call(vcpu, guest_str, 0, 0);
	for (bad = 0; bad < 3; bad++) {
		enable(self->tool, 0);
		kvmi_call_begin(vcpu, guest_str_at, 0x5555, 0x1111);
		expect_descriptor(self->tool, 0, KVMI_DESC_TR, 0, &ev);
		switch (bad) {
		case 0:
			kvmi_reply(self->tool, &ev, 3);
			break;
		case 1:
			kvmi_reply_value(self->tool, &ev, 0);
			break;
		case 2:
			kvmi_reply_data(self->tool, &ev, KVMI_EVENT_ACTION_RETRY, "", 1);
			break;
		}
		kvmi_expect_closed(self->tool);
		TEST_ASSERT_EQ(kvmi_call_end(vcpu), tr | 0x1111ull << 32);
		self->tool = kvmi_rehook(self->tool);
	}
	kvmi_stop(&runner);
}

TEST_F(kvmi_descriptor, lost_while_waiting)
{
	u64 gdt = self->vm->arch.gdt;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int closed;

	kvmi_start_agent(&runner, vcpu);
	for (closed = 0; closed < 2; closed++) {
		enable(self->tool, 0);
		kvmi_call_begin(vcpu, guest_lgdt, gdt, 0x1ff + closed);
		expect_descriptor(self->tool, 0, KVMI_DESC_GDTR, 1, &ev);
		if (closed)
			kvmi_close(self->tool);
		else
			kvmi_unhook(self->vm);
		kvmi_call_end(vcpu);
		TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sgdt, 0, 0),
			       gdtr(self->vm, 0x1ff + closed));
		self->tool = kvmi_rehook(self->tool);
	}
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_sgdt, 0, 0), gdtr(self->vm, 0x200));
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Enabled for each vCPU alone, and both can wait at once. */
TEST_F(kvmi_descriptor, two_vcpus)
{
	struct kvmi_runner runner[2];
	struct kvmi_ev ev[2], first;
	int i, round;

	for (i = 0; i < 2; i++)
		kvmi_start_agent(&runner[i], self->vcpu[i]);
	enable(self->tool, 0);
	kvmi_call(self->vcpu[1], guest_sgdt, 0, 0);
	kvmi_expect_quiet(self->tool);
	call_watched(self->tool, self->vcpu[0], KVMI_DESC_GDTR, 0, guest_sgdt, 0, 0);
	enable(self->tool, 1);

	for (round = 0; round < 6; round++) {
		kvmi_call_begin(self->vcpu[0], guest_sgdt, 0, 0);
		kvmi_call_begin(self->vcpu[1], guest_sidt, 0, 0);
		for (i = 0; i < 2; i++) {
			TEST_ASSERT(kvmi_next_event(self->tool, &first), "Closed");
			TEST_ASSERT_EQ(first.event.event, KVMI_VCPU_EVENT_DESCRIPTOR);
			TEST_ASSERT(first.common.vcpu < 2, "vCPU %u", first.common.vcpu);
			ev[first.common.vcpu] = first;
		}
		check_descriptor_event(&ev[0], KVMI_DESC_GDTR, 0);
		check_descriptor_event(&ev[1], KVMI_DESC_IDTR, 0);
		for (i = 0; i < 2; i++) {
			int n = i ^ (round & 1);

			kvmi_reply(self->tool, &ev[n], KVMI_EVENT_ACTION_CONTINUE);
			kvmi_call_end(self->vcpu[n]);
			if (!i)
				TEST_ASSERT(!kvmi_call_is_done(self->vcpu[!n]),
					    "vCPU %d did not wait", !n);
		}
	}
	disable(self->tool, 0);
	kvmi_call(self->vcpu[0], guest_sgdt, 0, 0);
	kvmi_expect_quiet(self->tool);
	call_watched(self->tool, self->vcpu[1], KVMI_DESC_IDTR, 0, guest_sidt, 0, 0);
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

/* The interception ends with whatever has asked for it. */
TEST_F(kvmi_descriptor, interception_ends)
{
	enum { DISABLE, CLOSE, UNHOOK, NR };
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 without;
	int how;

	without = kvmi_count_exits(vcpu, guest_store_often, 0, 0);
	TEST_ASSERT(without < STORES, "%lu exits for %d SGDT", (unsigned long)without, STORES);
	for (how = 0; how < NR; how++) {
		kvmi_start_agent(&runner, vcpu);
		enable(self->tool, 0);
		if (how == DISABLE)
			disable(self->tool, 0);
		kvmi_stop(&runner);
		if (how == CLOSE)
			kvmi_close(self->tool);
		if (how == UNHOOK)
			kvmi_unhook(self->vm);
		kvmi_expect_few_exits(vcpu, guest_store_often, 0, 0, without + STORES / 2);
		self->tool = kvmi_rehook(self->tool);
	}
}

/* Unless the tool wants it to stay: it is no harm to the guest. */
TEST_F(kvmi_descriptor, interception_stays)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	u64 without;

	without = kvmi_count_exits(vcpu, guest_store_often, 0, 0);
	TEST_ASSERT_EQ(kvmi_control_cleanup(self->tool, 0), 0);
	kvmi_start_agent(&runner, vcpu);
	enable(self->tool, 0);
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_call(vcpu, guest_store_often, 0, 0), 0);
	kvmi_stop(&runner);
	TEST_ASSERT(kvmi_count_exits(vcpu, guest_store_often, 0, 0) >= STORES,
		    "SGDT is not intercepted any more");

	/* A later connection ends it. */
	self->tool = kvmi_rehook(self->tool);
	kvmi_unhook(self->vm);
	kvmi_expect_few_exits(vcpu, guest_store_often, 0, 0, without + STORES / 2);
}

/* Intel processors may lack the interception, AMD ones do not. */
static bool can_intercept(void)
{
	struct kvmi_runner runner;
	struct kvmi_tool *tool;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int err;

	vm = vm_create_with_vcpus(1, NULL, &vcpu);
	tool = kvmi_hook(vm);
	kvmi_start_agent(&runner, vcpu);
	err = kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_DESCRIPTOR, 1);
	TEST_ASSERT(!err || (err == -KVM_EOPNOTSUPP && host_cpu_is_intel), "Error %d", err);
	kvmi_stop(&runner);
	kvmi_free(tool);
	kvm_vm_free(vm);

	return !err;
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();
	__TEST_REQUIRE(can_intercept(), "The host cannot intercept these instructions");

	return test_harness_run(argc, argv);
}
