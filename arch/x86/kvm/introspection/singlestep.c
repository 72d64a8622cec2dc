// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: single-stepping, and the work that a vCPU has between two
 * instructions.
 *
 * Where the processor has no monitor trap flag, RFLAGS.TF is set while the guest
 * runs, #DB and all other exceptions are intercepted, and TF is taken away again
 * before anybody can see it. Instructions that would show it to the guest are
 * not executed by the processor.
 */
#include <linux/kvmi_host.h>

#include "irq.h"
#include "mmu/gfn_access.h"
#include "regs.h"
#include "x86.h"

#include "events.h"
#include "exception.h"
#include "intercept.h"
#include "memory.h"
#include "singlestep.h"

/* Both who want the vCPU to be single-stepped were asked. */
static void kvmi_recalc_step(struct kvm_vcpu *vcpu)
{
	struct kvmi_vcpu_arch *arch = &vcpu->arch.kvmi;

	kvmi_set_intercept(vcpu, KVMI_INTERCEPT_STEP,
			   arch->wants_step || arch->step_over);
	/* For interrupts that were held back. */
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}

static void kvmi_set_step(struct kvm_vcpu *vcpu, bool enable)
{
	vcpu->arch.kvmi.wants_step = enable;
	vcpu->arch.kvmi.step_done = false;
	kvmi_recalc_step(vcpu);
}

/**
 * kvmi_step_over - an instruction that accesses restricted pages is to be stepped over
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 * @enable: begin or end
 */
void kvmi_step_over(struct kvm_vcpu *vcpu, bool enable)
{
	if (vcpu->arch.kvmi.step_over == enable)
		return;

	vcpu->arch.kvmi.step_over = enable;
	kvmi_recalc_step(vcpu);
}

/* KVMI_VCPU_CONTROL_SINGLESTEP */
int kvmi_arch_vcpu_control_singlestep(struct kvmi_call *call)
{
	const struct kvmi_vcpu_control_singlestep *req = call->req;
	struct kvm_vcpu *vcpu = call->vcpu;

	/* A tool can always stop what it has started. */
	if (req->enable && !kvmi_event_allowed(call->kvmi, KVMI_VCPU_EVENT_SINGLESTEP))
		return -KVM_EPERM;
	if (memchr_inv(req->padding, 0, sizeof(req->padding)) || req->enable > 1)
		return -KVM_EINVAL;

	kvmi_set_step(vcpu, req->enable);
	kvm_update_blockirq_apicv_inhibit(vcpu->kvm);

	return 0;
}

/* A vCPU that still ran when the connection ended may have left a step behind. */
static bool kvmi_is_step_done(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.kvmi.step_done && vcpu->arch.kvmi.wants_step;
}

/* The guest has executed an instruction, or KVM has done it in its place. */
void __kvmi_instruction_done(struct kvm_vcpu *vcpu)
{
	if (is_guest_mode(vcpu))
		return;

	kvm_gfn_access_insn_done(vcpu);

	if (vcpu->arch.kvmi.wants_step) {
		vcpu->arch.kvmi.step_done = true;
		kvmi_request_work(vcpu);
	}
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvmi_instruction_done);

static bool kvmi_fetch_page(struct kvm_vcpu *vcpu, gva_t gva, u8 *insn,
			    unsigned int len)
{
	gpa_t gpa = kvmi_gva_to_gpa(vcpu, gva);

	return gpa != INVALID_GPA &&
	       !kvm_vcpu_read_guest_page(vcpu, gpa_to_gfn(gpa), insn,
					 offset_in_page(gpa), len);
}

/* The bytes at rip, as many as there are in guest memory. */
static void kvmi_fetch(struct kvm_vcpu *vcpu, u8 *insn, unsigned int len)
{
	unsigned long rip = kvm_get_linear_rip(vcpu);
	unsigned int here = min_t(unsigned int, len, PAGE_SIZE - offset_in_page(rip));

	if (kvmi_fetch_page(vcpu, rip, insn, here) && here < len)
		kvmi_fetch_page(vcpu, rip + here, insn + here, len - here);
}

static bool kvmi_is_prefix(u8 byte, bool is_64bit)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64 ... 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3:
		return true;
	case 0x40 ... 0x4f:
		return is_64bit;
	default:
		return false;
	}
}

#define KVMI_OP_POP_SS		0x17
#define KVMI_OP_MOV_TO_SREG	0x8e
#define KVMI_OP_PUSHF		0x9c
#define KVMI_OP_POPF		0x9d
#define KVMI_OP_INT3		0xcc
#define KVMI_OP_INT		0xcd
#define KVMI_OP_IRET		0xcf
#define KVMI_OP_SYSCALL		0x0f05
#define KVMI_OP_SYSRET		0x0f07
#define KVMI_OP_SYSENTER	0x0f34
#define KVMI_OP_SYSEXIT		0x0f35

/*
 * The opcode of the instruction at rip, 0 if it cannot be told, the byte that
 * follows it, and how many precede that one.
 */
static u16 kvmi_next_opcode(struct kvm_vcpu *vcpu, u8 *next, u8 *len)
{
	bool is_64bit = is_64_bit_mode(vcpu);
	u8 insn[16] = {};
	int i = 0;

	kvmi_fetch(vcpu, insn, 15);
	while (i < 13 && kvmi_is_prefix(insn[i], is_64bit))
		i++;

	*next = insn[i + 1];
	*len = i + 1;
	return insn[i] == 0x0f ? 0x0f00 | insn[i + 1] : insn[i];
}

/*
 * The processor takes no trap behind a load of SS, but only behind one more
 * instruction, which may be one that shows TF. It may if TF is the guest's own.
 */
static bool kvmi_loads_ss(struct kvm_vcpu *vcpu, u16 opcode, u8 modrm)
{
	if (kvm_get_rflags(vcpu) & X86_EFLAGS_TF)
		return false;

	return opcode == KVMI_OP_MOV_TO_SREG ? (modrm >> 3 & 7) == VCPU_SREG_SS :
					       !is_64_bit_mode(vcpu);
}

static bool kvmi_may_fetch(struct kvm_vcpu *vcpu, gva_t gva)
{
	gpa_t gpa = kvmi_gva_to_gpa(vcpu, gva);

	return gpa != INVALID_GPA &&
	       kvm_gfn_access_allows(vcpu, gpa, KVM_GFN_ACCESS_X);
}

/* If not, the processor has to find out that it must not be executed. */
static bool kvmi_may_execute(struct kvm_vcpu *vcpu, unsigned int len)
{
	unsigned long rip = kvm_get_linear_rip(vcpu);

	return kvmi_may_fetch(vcpu, rip) && kvmi_may_fetch(vcpu, rip + len - 1);
}

/**
 * __kvmi_step_in_software - the vCPU is about to execute an instruction
 * @vcpu: the vCPU, which is single-stepped; the caller holds kvm->srcu
 * @r: out: what the exit handler would return
 *
 * Return: true if the guest is not to be entered
 */
bool __kvmi_step_in_software(struct kvm_vcpu *vcpu, int *r)
{
	struct kvmi_vcpu_arch *arch = &vcpu->arch.kvmi;
	u8 next, len;
	u16 opcode;

	if (!kvmi_steps_with_tf(vcpu) || is_guest_mode(vcpu) ||
	    vcpu->arch.mp_state != KVM_MP_STATE_RUNNABLE || vcpu->arch.apf.halted ||
	    kvm_is_exception_pending(vcpu) || kvm_event_needs_reinjection(vcpu))
		return false;

	arch->step_insn = KVMI_STEP_PLAIN;
	/* The emulator knows nothing of IOPL there. */
	if (kvm_get_rflags(vcpu) & X86_EFLAGS_VM)
		return false;

	opcode = kvmi_next_opcode(vcpu, &next, &len);
	switch (opcode) {
	case KVMI_OP_POP_SS:
	case KVMI_OP_MOV_TO_SREG:
		if (!kvmi_loads_ss(vcpu, opcode, next))
			return false;
		fallthrough;
	case KVMI_OP_PUSHF:
	case KVMI_OP_POPF:
	case KVMI_OP_SYSCALL:
	case KVMI_OP_SYSENTER:
	case KVMI_OP_SYSEXIT:
		*r = kvm_emulate_instruction(vcpu, 0);
		return true;
	case KVMI_OP_INT3:
		if (!kvmi_may_execute(vcpu, len))
			return false;
		vcpu->arch.event_exit_inst_len = len;
		return kvmi_breakpoint(vcpu, len, r);
	case KVMI_OP_INT:
		if (!kvmi_may_execute(vcpu, len + 1))
			return false;
		vcpu->arch.event_exit_inst_len = len + 1;
		kvm_queue_interrupt(vcpu, next, true);
		kvm_make_request(KVM_REQ_EVENT, vcpu);
		return false;
	case KVMI_OP_IRET:
		arch->step_insn = KVMI_STEP_LOADS_TF;
		return false;
	case KVMI_OP_SYSRET:
		arch->step_insn = KVMI_STEP_SYSRET;
		return false;
	default:
		return false;
	}
}

static u64 kvmi_put_tf(u64 rflags, bool tf)
{
	return tf ? rflags | X86_EFLAGS_TF : rflags & ~X86_EFLAGS_TF;
}

/* SYSRET takes the flags from r11. Returns the TF that was there. */
static bool kvmi_exchange_r11_tf(struct kvm_vcpu *vcpu, bool tf)
{
#ifdef CONFIG_X86_64
	unsigned long *r11 = &vcpu->arch.regs[VCPU_REGS_R11];
	bool old = *r11 & X86_EFLAGS_TF;

	*r11 = kvmi_put_tf(*r11, tf);
	return old;
#else
	return false;
#endif
}

/**
 * kvmi_begin_step - the guest is about to be entered, and kvmi_steps_with_tf()
 * @vcpu: the vCPU
 * @delivers: the processor delivers an event then
 * @rflags: in, out: the flags that the guest is entered with
 *
 * Return: KVMI_STEP_TF if @rflags has changed; KVMI_STEP_DELIVERS if the guest
 * must be left again at once: the step is the delivery of the event, and the flags
 * as the guest will find them on its stack are its own; else KVMI_STEP_NONE
 */
enum kvmi_step_state kvmi_begin_step(struct kvm_vcpu *vcpu, bool delivers,
				     u64 *rflags)
{
	struct kvmi_vcpu_arch *arch = &vcpu->arch.kvmi;

	if (is_guest_mode(vcpu)) {
		arch->step = KVMI_STEP_NONE;
	} else if (delivers) {
		arch->step = KVMI_STEP_DELIVERS;
	} else {
		arch->step = KVMI_STEP_TF;
		arch->step_guest_tf = *rflags & X86_EFLAGS_TF;
		*rflags |= X86_EFLAGS_TF;
		if (arch->step_insn == KVMI_STEP_SYSRET)
			arch->step_r11_tf = kvmi_exchange_r11_tf(vcpu, true);
	}

	return arch->step;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvmi_begin_step);

/**
 * kvmi_end_step - the guest was left, and kvmi_is_in_step()
 * @vcpu: the vCPU, whose registers nobody has seen yet
 * @trapped: the exit is #DB because of TF
 * @delivered: an event that was to be delivered no longer is
 * @rflags: in, out: the flags of the guest; it gets back its own TF
 *
 * Return: true if the guest has run with TF
 */
bool kvmi_end_step(struct kvm_vcpu *vcpu, bool trapped, bool delivered,
		   u64 *rflags)
{
	struct kvmi_vcpu_arch *arch = &vcpu->arch.kvmi;
	bool tf = arch->step_guest_tf;

	if (arch->step == KVMI_STEP_DELIVERS)
		arch->step = delivered ? KVMI_STEP_DELIVERED : KVMI_STEP_NONE;
	if (arch->step != KVMI_STEP_TF)
		return false;

	arch->step = trapped ? KVMI_STEP_TRAPPED : KVMI_STEP_NONE;
	if (trapped && arch->step_insn == KVMI_STEP_LOADS_TF)
		return true;

	if (arch->step_insn == KVMI_STEP_SYSRET) {
		kvmi_exchange_r11_tf(vcpu, arch->step_r11_tf);
		/* SYSRET traps by the TF that it loads. */
		if (trapped) {
			arch->step_guest_tf = arch->step_r11_tf;
			tf = arch->step_r11_tf;
		}
	}
	*rflags = kvmi_put_tf(*rflags, tf);

	return true;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvmi_end_step);

/**
 * kvmi_step_has_trapped - #DB was intercepted
 * @vcpu: the vCPU
 *
 * Return: true if it has ended a step; for what else it may be see kvmi_step_dr6()
 */
bool kvmi_step_has_trapped(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.kvmi.step != KVMI_STEP_TRAPPED)
		return false;

	vcpu->arch.kvmi.step = KVMI_STEP_NONE;
	kvmi_instruction_done(vcpu);

	return true;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvmi_step_has_trapped);

void __kvmi_handle_step(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.kvmi.step != KVMI_STEP_DELIVERED)
		return;

	vcpu->arch.kvmi.step = KVMI_STEP_NONE;
	kvmi_instruction_done(vcpu);
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvmi_handle_step);

/**
 * kvmi_arch_has_work - is there something for the vCPU to do at a boundary
 * @vcpu: the vCPU of the calling thread
 *
 * Return: true if kvmi_arch_next_event() or kvmi_arch_before_entry() has something
 */
bool kvmi_arch_has_work(struct kvm_vcpu *vcpu)
{
	return kvmi_is_step_done(vcpu) || kvmi_arch_is_injecting(vcpu);
}

/**
 * kvmi_arch_next_event - what is the tool to be told between two instructions
 * @vcpu: the vCPU of the calling thread
 * @ev: out: the event
 *
 * Return: true if @ev was set
 */
bool kvmi_arch_next_event(struct kvm_vcpu *vcpu, struct kvmi_event *ev)
{
	static const struct kvmi_vcpu_event_singlestep payload;

	if (kvmi_trap_event(vcpu, ev))
		return true;

	if (!kvmi_is_step_done(vcpu))
		return false;

	vcpu->arch.kvmi.step_done = false;
	ev->id = KVMI_VCPU_EVENT_SINGLESTEP;
	ev->payload = &payload;
	ev->payload_len = sizeof(payload);
	return true;
}

/**
 * kvmi_arch_before_entry - all events are dealt with, and all commands
 * @vcpu: the vCPU of the calling thread
 */
void kvmi_arch_before_entry(struct kvm_vcpu *vcpu)
{
	kvmi_queue_injection(vcpu);
}

/**
 * kvmi_arch_before_wait - the vCPU is about to wait for the tool
 * @vcpu: the vCPU of the calling thread
 */
void kvmi_arch_before_wait(struct kvm_vcpu *vcpu)
{
	/* The others must not wait for the tool as well. */
	kvm_gfn_access_close(vcpu);
}

/**
 * kvmi_arch_withdraw - the connection has ended
 * @vcpu: a vCPU whose introspection was withdrawn
 *
 * What only a tool has a use for ends, whatever becomes of the intercepts.
 * kvmi_arch_recalc_intercepts() follows.
 */
void kvmi_arch_withdraw(struct kvm_vcpu *vcpu)
{
	vcpu->arch.kvmi.inject = KVMI_INJECT_NONE;
	vcpu->arch.kvmi.step_over = false;
	kvm_gfn_access_forget(vcpu);
	kvmi_set_step(vcpu, false);
}
