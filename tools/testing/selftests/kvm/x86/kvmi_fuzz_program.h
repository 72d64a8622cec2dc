/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: programs, what they are made of, and how they are made.
 *
 * A program is what a tool, and the VMM, do one after another. Each step has a letter,
 * up to four numbers and bytes, and is written like this, without what is 0 at the end:
 *
 *	LETTER id.size.sent.arg:bytes
 *
 * The bytes are hexadecimal, (N) stands for N zeros, and zeros follow up to sent, which is
 * size if it is not given. So "m4.8:0a" asks KVMI_VM_CHECK_COMMAND about id 10.
 */
#ifndef KVMI_FUZZ_PROGRAM_H
#define KVMI_FUZZ_PROGRAM_H

#include <linux/kvmi.h>

#include "kvm_util.h"
#include "processor.h"

#define FUZZ_STEPS		64	/* in a program */
#define FUZZ_DATA		640	/* bytes of a step that need not be zero */

/* Guest memory at a fixed address, physical and virtual. */
#define FUZZ_GPA		0x10000000ull
#define FUZZ_PAGES		8

/* Two vCPUs run, the third one waits for INIT. */
#define FUZZ_RUNNING		2
#define FUZZ_VCPUS		3

enum {
	FUZZ_MESSAGE = 'm',	/* id, size, bytes; sent: so many bytes follow the header */
	/*
	 * The reply to the event of vCPU id, CONTINUE with what the guest wants: size and
	 * sent as above, arg is added to seq, the bytes are changes (XOR).
	 */
	FUZZ_REPLY = 'r',
	FUZZ_ANY_REPLY = 'R',	/* the same, also if there is nothing to reply to */
	FUZZ_SPLIT = 's',	/* the last id bytes go with what follows, in another write */
	FUZZ_SIGNAL = 'k',	/* for the thread of vCPU id */
	FUZZ_DEAF = 'd',	/* do not read any more */
	FUZZ_SHUTDOWN = 'x',	/* no more writing */
	FUZZ_CLOSE = 'q',
	FUZZ_COMMAND = 'c',	/* KVM_INTROSPECTION_COMMAND: id, size: allow */
	FUZZ_EVENT = 'e',	/* KVM_INTROSPECTION_EVENT */
	FUZZ_DEADLINE = 't',	/* KVM_INTROSPECTION_DEADLINE: id: ms, size: max_missed */
	FUZZ_PREUNHOOK = 'p',	/* KVM_INTROSPECTION_PREUNHOOK */
	FUZZ_UNHOOK = 'u',	/* KVM_INTROSPECTION_UNHOOK */
	FUZZ_WAIT = 'w',	/* a moment, for an event of vCPU id */
};

struct fuzz_step {
	u8 op;
	u16 id;
	u16 size;
	u16 sent;
	u16 len;		/* of data, the rest of it is not used */
	s32 arg;
	u8 data[FUZZ_DATA];
};

struct fuzz_program {
	u32 nr;
	struct fuzz_step steps[FUZZ_STEPS];
};

/* All that is static is in the guest as well: have what is large elsewhere. */
static inline struct fuzz_program *fuzz_new_program(void)
{
	struct fuzz_program *prog = calloc(1, sizeof(*prog));

	TEST_ASSERT(prog, "No memory");
	return prog;
}

/* The same numbers for the same seed, on every machine. */
static u64 fuzz_random_state;

static inline void fuzz_seed(u64 seed, u64 nr)
{
	fuzz_random_state = (seed + 1) * 0x2545f4914f6cdd1dull + nr * 0xd1342543de82ef95ull;
}

static inline u32 fuzz_random(void)
{
	u64 x;

	fuzz_random_state = fuzz_random_state * 0x5851f42d4c957f2dull + 0x14057b7ef767814full;
	x = fuzz_random_state;
	x = (x ^ (x >> 32)) * 0x9fb21c651e98df25ull;
	return (x ^ (x >> 29)) >> 16;
}

static inline u32 fuzz_below(u32 limit)
{
	return fuzz_random() % limit;
}

static inline bool fuzz_one_in(u32 n)
{
	return !fuzz_below(n);
}

static inline u64 fuzz_random64(void)
{
	return (u64)fuzz_random() << 32 | fuzz_random();
}

#define fuzz_pick(array)	((array)[fuzz_below(ARRAY_SIZE(array))])

/* What the fields of requests are. */
enum fuzz_kind {
	FUZZ_END, FUZZ_PAD, FUZZ_FLAG, FUZZ_MESSAGE_ID, FUZZ_EVENT_ID, FUZZ_VCPU, FUZZ_GPA_OF,
	FUZZ_GVA_OF, FUZZ_LENGTH, FUZZ_MSRS, FUZZ_ENTRIES, FUZZ_ACCESS, FUZZ_MSR, FUZZ_CR,
	FUZZ_VECTOR, FUZZ_LEAF, FUZZ_ANY, FUZZ_XFEATURES,
};

struct fuzz_field {
	u16 offset;
	u8 width;
	u8 kind;
};

struct fuzz_command {
	u16 id;
	u16 size;
	struct fuzz_field fields[7];
};

#define FUZZ_FIELD(type, field, kind)						\
	{ offsetof(struct type, field), sizeof(((struct type *)0)->field), kind }
#define FUZZ_VCPU_FIELD(type, field, kind)					\
	{ sizeof(struct kvmi_vcpu_hdr) + offsetof(struct type, field),		\
	  sizeof(((struct type *)0)->field), kind }
#define FUZZ_VM(id, type, ...)		{ id, sizeof(struct type), { __VA_ARGS__ } }
#define FUZZ_OF_VCPU(id, type, ...)						\
	{ id, sizeof(struct kvmi_vcpu_hdr) + sizeof(struct type), { __VA_ARGS__ } }

/* All commands; struct kvmi_vcpu_hdr goes without saying. */
static const struct fuzz_command fuzz_commands[] = {
	{ KVMI_GET_VERSION },
	FUZZ_VM(KVMI_VM_CHECK_COMMAND, kvmi_vm_check_command,
		FUZZ_FIELD(kvmi_vm_check_command, id, FUZZ_MESSAGE_ID),
		FUZZ_FIELD(kvmi_vm_check_command, padding1, FUZZ_PAD),
		FUZZ_FIELD(kvmi_vm_check_command, padding2, FUZZ_PAD)),
	FUZZ_VM(KVMI_VM_CHECK_EVENT, kvmi_vm_check_event,
		FUZZ_FIELD(kvmi_vm_check_event, id, FUZZ_EVENT_ID),
		FUZZ_FIELD(kvmi_vm_check_event, padding1, FUZZ_PAD),
		FUZZ_FIELD(kvmi_vm_check_event, padding2, FUZZ_PAD)),
	{ KVMI_VM_GET_INFO },
	FUZZ_VM(KVMI_VM_CONTROL_EVENTS, kvmi_vm_control_events,
		FUZZ_FIELD(kvmi_vm_control_events, event_id, FUZZ_FLAG),
		FUZZ_FIELD(kvmi_vm_control_events, enable, FUZZ_FLAG),
		FUZZ_FIELD(kvmi_vm_control_events, padding1, FUZZ_PAD),
		FUZZ_FIELD(kvmi_vm_control_events, padding2, FUZZ_PAD)),
	FUZZ_VM(KVMI_VM_READ_PHYSICAL, kvmi_vm_read_physical,
		FUZZ_FIELD(kvmi_vm_read_physical, gpa, FUZZ_GPA_OF),
		FUZZ_FIELD(kvmi_vm_read_physical, size, FUZZ_LENGTH),
		FUZZ_FIELD(kvmi_vm_read_physical, padding1, FUZZ_PAD),
		FUZZ_FIELD(kvmi_vm_read_physical, padding2, FUZZ_PAD)),
	FUZZ_VM(KVMI_VM_WRITE_PHYSICAL, kvmi_vm_write_physical,
		FUZZ_FIELD(kvmi_vm_write_physical, gpa, FUZZ_GPA_OF),
		FUZZ_FIELD(kvmi_vm_write_physical, size, FUZZ_LENGTH),
		FUZZ_FIELD(kvmi_vm_write_physical, padding1, FUZZ_PAD),
		FUZZ_FIELD(kvmi_vm_write_physical, padding2, FUZZ_PAD)),
	FUZZ_VM(KVMI_VM_PAUSE_VCPU, kvmi_vm_pause_vcpu,
		FUZZ_FIELD(kvmi_vm_pause_vcpu, vcpu, FUZZ_VCPU),
		FUZZ_FIELD(kvmi_vm_pause_vcpu, wait, FUZZ_FLAG),
		FUZZ_FIELD(kvmi_vm_pause_vcpu, padding1, FUZZ_PAD),
		FUZZ_FIELD(kvmi_vm_pause_vcpu, padding2, FUZZ_PAD)),
	FUZZ_VM(KVMI_VM_CONTROL_CLEANUP, kvmi_vm_control_cleanup,
		FUZZ_FIELD(kvmi_vm_control_cleanup, enable, FUZZ_FLAG),
		FUZZ_FIELD(kvmi_vm_control_cleanup, padding[6], FUZZ_PAD)),
	{ KVMI_VM_GET_MAX_GFN },
	FUZZ_VM(KVMI_VM_SET_PAGE_ACCESS, kvmi_vm_set_page_access,
		FUZZ_FIELD(kvmi_vm_set_page_access, count, FUZZ_ENTRIES),
		FUZZ_FIELD(kvmi_vm_set_page_access, padding1, FUZZ_PAD),
		FUZZ_FIELD(kvmi_vm_set_page_access, padding2, FUZZ_PAD)),

	{ KVMI_VCPU_GET_INFO, sizeof(struct kvmi_vcpu_hdr) },
	FUZZ_OF_VCPU(KVMI_VCPU_CONTROL_EVENTS, kvmi_vcpu_control_events,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_events, event_id, FUZZ_EVENT_ID),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_events, enable, FUZZ_FLAG),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_events, padding1, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_events, padding2, FUZZ_PAD)),
	FUZZ_OF_VCPU(KVMI_VCPU_GET_REGISTERS, kvmi_vcpu_get_registers,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_registers, nmsrs, FUZZ_MSRS),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_registers, padding1, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_registers, padding2, FUZZ_PAD)),
	FUZZ_OF_VCPU(KVMI_VCPU_SET_REGISTERS, kvm_regs,
		     FUZZ_VCPU_FIELD(kvm_regs, rip, FUZZ_GVA_OF),
		     FUZZ_VCPU_FIELD(kvm_regs, rsp, FUZZ_GVA_OF),
		     FUZZ_VCPU_FIELD(kvm_regs, rax, FUZZ_ANY),
		     FUZZ_VCPU_FIELD(kvm_regs, rflags, FUZZ_ANY)),
	FUZZ_OF_VCPU(KVMI_VCPU_GET_CPUID, kvmi_vcpu_get_cpuid,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_cpuid, function, FUZZ_LEAF),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_cpuid, index, FUZZ_FLAG)),
	FUZZ_OF_VCPU(KVMI_VCPU_CONTROL_CR, kvmi_vcpu_control_cr,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_cr, cr, FUZZ_CR),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_cr, enable, FUZZ_FLAG),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_cr, padding1, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_cr, padding2, FUZZ_PAD)),
	FUZZ_OF_VCPU(KVMI_VCPU_INJECT_EXCEPTION, kvmi_vcpu_inject_exception,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_inject_exception, nr, FUZZ_VECTOR),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_inject_exception, padding1, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_inject_exception, padding2, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_inject_exception, error_code, FUZZ_ANY),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_inject_exception, address, FUZZ_GVA_OF)),
	FUZZ_OF_VCPU(KVMI_VCPU_GET_XCR, kvmi_vcpu_get_xcr,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_xcr, xcr, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_xcr, padding[0], FUZZ_PAD)),
	{ KVMI_VCPU_GET_XSAVE, sizeof(struct kvmi_vcpu_hdr) },
	FUZZ_OF_VCPU(KVMI_VCPU_SET_XSAVE, kvmi_vcpu_set_xsave,
		     { sizeof(struct kvmi_vcpu_hdr) + 24, 4, FUZZ_PAD },
		     { sizeof(struct kvmi_vcpu_hdr) + 512, 8, FUZZ_XFEATURES },
		     { sizeof(struct kvmi_vcpu_hdr) + 520, 8, FUZZ_PAD }),
	FUZZ_OF_VCPU(KVMI_VCPU_GET_MTRR_TYPE, kvmi_vcpu_get_mtrr_type,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_get_mtrr_type, gpa, FUZZ_GPA_OF)),
	FUZZ_OF_VCPU(KVMI_VCPU_CONTROL_MSR, kvmi_vcpu_control_msr,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_msr, enable, FUZZ_FLAG),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_msr, padding1, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_msr, padding2, FUZZ_PAD),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_msr, msr, FUZZ_MSR)),
	FUZZ_OF_VCPU(KVMI_VCPU_CONTROL_SINGLESTEP, kvmi_vcpu_control_singlestep,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_singlestep, enable, FUZZ_FLAG),
		     FUZZ_VCPU_FIELD(kvmi_vcpu_control_singlestep, padding[3], FUZZ_PAD)),
	FUZZ_OF_VCPU(KVMI_VCPU_TRANSLATE_GVA, kvmi_vcpu_translate_gva,
		     FUZZ_VCPU_FIELD(kvmi_vcpu_translate_gva, gva, FUZZ_GVA_OF)),
};

static const u64 fuzz_interesting[] = {
	0, 1, 2, 3, 4, 7, 8, 15, 16, 24, 31, 32, 127, 128, 255, 256, 511, 512, 4095, 4096, 4097,
	8183, 8184, 8185, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
	0xfee00000, 0x100000000, 1ull << 47, 1ull << 51, 1ull << 52, 1ull << 63, ~0ull - 4095,
	~0ull,
};

static inline u64 fuzz_address(u32 wild)
{
	if (fuzz_one_in(wild))
		return fuzz_pick(fuzz_interesting);
	/* The guest's code, data and page tables are there. */
	if (fuzz_one_in(6))
		return (u64)fuzz_below(0x300) << PAGE_SHIFT | fuzz_below(PAGE_SIZE);
	return FUZZ_GPA + fuzz_below(FUZZ_PAGES) * PAGE_SIZE +
	       (fuzz_one_in(2) ? 0 : fuzz_below(PAGE_SIZE));
}

static inline bool is_zero(const void *data, size_t len)
{
	const u8 *bytes = data;

	while (len--) {
		if (*bytes++)
			return false;
	}
	return true;
}

/* What is sensible for a field, mostly. */
static inline u64 fuzz_value(u8 kind)
{
	static const u32 msrs[] = {
		MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP, MSR_LSTAR,
		MSR_STAR, MSR_EFER, MSR_IA32_CR_PAT, 0x7ff, 0x800, 0x8ff, 0x900, 0x1fff, 0x2000,
		0xc0001fff, 0xc0002000,
	};
	static const u8 accesses[] = { 0, 0, 1, 1, 3, 5, 7, 7, 7, 2, 4, 6, 8, 255 };

	switch (kind) {
	case FUZZ_PAD:
		return fuzz_one_in(48) ? 1ull << fuzz_below(32) : 0;
	case FUZZ_FLAG:
		return fuzz_one_in(16) ? fuzz_below(256) : fuzz_below(2);
	case FUZZ_MESSAGE_ID:
		return fuzz_below(KVMI_NEXT_VCPU_MESSAGE + 3);
	case FUZZ_EVENT_ID:
		return fuzz_one_in(8) ? fuzz_below(24) : KVMI_VCPU_EVENT_ID(fuzz_below(10));
	case FUZZ_VCPU:
		return fuzz_one_in(8) ? fuzz_below(FUZZ_VCPUS + 2) : fuzz_below(FUZZ_RUNNING);
	case FUZZ_GPA_OF:
		return fuzz_address(8);
	case FUZZ_GVA_OF:
		return fuzz_address(4);
	case FUZZ_LENGTH:
		return fuzz_one_in(16) ? fuzz_below(8192) : 1 + fuzz_below(32);
	case FUZZ_MSRS:
	case FUZZ_ENTRIES:
		return fuzz_one_in(16) ? fuzz_below(600) : fuzz_below(4);
	case FUZZ_ACCESS:
		return fuzz_pick(accesses);
	case FUZZ_MSR:
		return fuzz_pick(msrs);
	case FUZZ_CR:
		return fuzz_one_in(8) ? fuzz_below(10) : "\0\3\4"[fuzz_below(3)];
	case FUZZ_VECTOR:
		return fuzz_below(20 + fuzz_one_in(4) * 14);
	case FUZZ_LEAF:
		return fuzz_below(32) | (fuzz_one_in(3) ? 0x80000000 : fuzz_below(2) << 30);
	case FUZZ_ANY:
		return fuzz_one_in(2) ? fuzz_pick(fuzz_interesting) : fuzz_random64();
	case FUZZ_XFEATURES:
		return fuzz_one_in(4) ? fuzz_pick(fuzz_interesting) : fuzz_below(8);
	default:
		return 0;
	}
}

static inline const struct fuzz_command *fuzz_find_command(u16 id)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(fuzz_commands); i++) {
		if (fuzz_commands[i].id == id)
			return &fuzz_commands[i];
	}

	return NULL;
}

static inline void fuzz_put(struct fuzz_step *step, u32 offset, u32 width, u64 value)
{
	if (offset + width > FUZZ_DATA)
		return;
	while (step->len < offset + width)
		step->data[step->len++] = 0;
	memcpy(step->data + offset, &value, width);
}

static inline u64 fuzz_get(const struct fuzz_step *step, u32 offset, u32 width)
{
	u64 value = 0;

	if (offset < step->len)
		memcpy(&value, step->data + offset, min_t(u32, width, step->len - offset));
	return value;
}

static inline size_t fuzz_step_size(const struct fuzz_step *step)
{
	return offsetof(struct fuzz_step, data) + step->len;
}

static inline void fuzz_copy_step(struct fuzz_step *to, const struct fuzz_step *from)
{
	memcpy(to, from, fuzz_step_size(from));
}

/* Without data, yet. */
static inline void fuzz_begin_step(struct fuzz_step *step, u8 op)
{
	memset(step, 0, offsetof(struct fuzz_step, data));
	step->op = op;
}

/* What follows the fixed part of a request. */
static inline void fuzz_make_tail(struct fuzz_step *step)
{
	u16 count, i, at = step->size;

	count = fuzz_get(step, sizeof(struct kvmi_vcpu_hdr), sizeof(count));
	switch (step->id) {
	case KVMI_VM_WRITE_PHYSICAL:
		step->size += count;
		for (i = 0; i < min_t(u16, count, 32); i++)
			fuzz_put(step, at + i, 1, fuzz_random());
		break;
	case KVMI_VCPU_GET_REGISTERS:
		step->size += count * sizeof(u32);
		for (i = 0; i < min_t(u16, count, 8); i++)
			fuzz_put(step, at + i * sizeof(u32), sizeof(u32), fuzz_value(FUZZ_MSR));
		break;
	case KVMI_VM_SET_PAGE_ACCESS:
		count = fuzz_get(step, 0, sizeof(count));
		step->size += count * sizeof(struct kvmi_page_access_entry);
		for (i = 0; i < min_t(u16, count, 8); i++, at += 16) {
			fuzz_put(step, at, 8, fuzz_address(16));
			fuzz_put(step, at + 8, 1, fuzz_value(FUZZ_ACCESS));
			fuzz_put(step, at + 15, 1, fuzz_one_in(32));
		}
		break;
	}
	step->sent = step->size;
}

static inline void fuzz_make_command(struct fuzz_step *step, const struct fuzz_command *cmd)
{
	const struct fuzz_field *field;

	fuzz_begin_step(step, FUZZ_MESSAGE);
	step->id = cmd->id;
	step->size = cmd->size;
	if (cmd->id & 1)
		fuzz_put(step, 0, 2, fuzz_value(FUZZ_VCPU));
	for (field = cmd->fields; field->kind; field++)
		fuzz_put(step, field->offset, field->width, fuzz_value(field->kind));
	fuzz_make_tail(step);
}

static inline void fuzz_make_message(struct fuzz_step *step)
{
	fuzz_make_command(step, &fuzz_pick(fuzz_commands));
}

/* Mostly one that KVM accepts. */
static inline void fuzz_make_reply(struct fuzz_step *step)
{
	fuzz_begin_step(step, fuzz_one_in(32) ? FUZZ_ANY_REPLY : FUZZ_REPLY);
	step->id = fuzz_below(FUZZ_RUNNING);
	step->size = sizeof(struct kvmi_vcpu_hdr) + sizeof(struct kvmi_vcpu_event_reply);
	if (fuzz_one_in(4))
		step->size += 8;
	if (fuzz_one_in(64))
		step->size = fuzz_below(40);
	step->sent = step->size;
	if (fuzz_one_in(64))
		step->arg = fuzz_one_in(2) ? (s32)fuzz_below(5) - 2 : (s32)fuzz_random();
	if (fuzz_one_in(6))
		fuzz_put(step, 8, 1, fuzz_one_in(3) ? 1 : 2);	/* the action */
	if (fuzz_one_in(64))
		fuzz_put(step, fuzz_below(16), 1, fuzz_random());
	if (fuzz_one_in(4))
		fuzz_put(step, 16, 8, fuzz_value(FUZZ_ANY));
}

static inline void fuzz_make_other(struct fuzz_step *step)
{
	static const u8 ops[] = {
		FUZZ_SPLIT, FUZZ_SPLIT, FUZZ_SPLIT, FUZZ_SPLIT, FUZZ_SPLIT, FUZZ_SIGNAL,
		FUZZ_SIGNAL, FUZZ_SIGNAL, FUZZ_WAIT, FUZZ_WAIT, FUZZ_WAIT, FUZZ_DEAF, FUZZ_COMMAND,
		FUZZ_COMMAND, FUZZ_EVENT, FUZZ_PREUNHOOK, FUZZ_PREUNHOOK, FUZZ_SHUTDOWN,
		FUZZ_CLOSE, FUZZ_DEADLINE, FUZZ_UNHOOK,
	};

	fuzz_begin_step(step, fuzz_pick(ops));
	switch (step->op) {
	case FUZZ_SPLIT:
		step->id = 1 + fuzz_below(fuzz_one_in(4) ? 600 : 24);
		break;
	case FUZZ_SIGNAL:
	case FUZZ_WAIT:
		step->id = fuzz_below(FUZZ_RUNNING);
		break;
	case FUZZ_COMMAND:
		step->id = fuzz_below(KVMI_NEXT_VCPU_MESSAGE);
		step->size = fuzz_one_in(4);
		break;
	case FUZZ_EVENT:
		step->id = fuzz_value(FUZZ_EVENT_ID) % KVMI_NEXT_VCPU_EVENT;
		step->size = fuzz_one_in(4);
		break;
	case FUZZ_DEADLINE:
		step->id = fuzz_below(5);
		step->size = fuzz_one_in(4) ? fuzz_below(4) : 0;
		break;
	}
	step->sent = step->size;
}

static inline void fuzz_make_step(struct fuzz_step *step)
{
	u32 choice = fuzz_below(16);

	if (choice < 10)
		fuzz_make_message(step);
	else if (choice < 15)
		fuzz_make_reply(step);
	else
		fuzz_make_other(step);
}

/* Something wrong with one message. */
static inline void fuzz_mutate_message(struct fuzz_step *step)
{
	const struct fuzz_command *cmd = fuzz_find_command(step->id);
	u32 offset = fuzz_below(min_t(u32, FUZZ_DATA - 8, step->size + 1)), n = 0;

	switch (fuzz_below(12)) {
	case 0:
		step->size = fuzz_one_in(4) ? fuzz_pick(fuzz_interesting) : step->size +
			     fuzz_below(17) - 8;
		step->sent = step->size;
		break;
	case 1:	/* the framing is lost */
		if (fuzz_one_in(4))
			step->sent = fuzz_below(step->size + 2);
		break;
	case 2:
		step->id = fuzz_one_in(2) ? fuzz_below(KVMI_NEXT_VCPU_MESSAGE + 4) :
					    fuzz_pick(fuzz_interesting);
		break;
	case 3:
		fuzz_put(step, 0, 2, fuzz_value(FUZZ_VCPU));
		break;
	case 4:
		fuzz_put(step, offset, 1, fuzz_get(step, offset, 1) ^ 1 << fuzz_below(8));
		break;
	case 5:
		fuzz_put(step, offset & ~7, 1 << fuzz_below(4), fuzz_pick(fuzz_interesting));
		break;
	default:
		if (!cmd || !cmd->fields[0].kind)
			break;
		while (cmd->fields[n].kind)
			n++;
		n = fuzz_below(n);
		fuzz_put(step, cmd->fields[n].offset, cmd->fields[n].width,
			 fuzz_one_in(2) ? fuzz_pick(fuzz_interesting) :
					  fuzz_value(cmd->fields[n].kind));
	}
}

static inline void fuzz_mutate_step(struct fuzz_step *step)
{
	if (step->op == FUZZ_MESSAGE)
		fuzz_mutate_message(step);
	else if (step->op == FUZZ_REPLY || step->op == FUZZ_ANY_REPLY)
		fuzz_make_reply(step);
	else
		fuzz_make_other(step);
}

static inline void fuzz_remove(struct fuzz_program *prog, u32 at)
{
	for (prog->nr--; at < prog->nr; at++)
		fuzz_copy_step(&prog->steps[at], &prog->steps[at + 1]);
}

/* Returns where there is room for a step now. */
static inline struct fuzz_step *fuzz_insert(struct fuzz_program *prog, u32 at)
{
	u32 i;

	if (prog->nr == FUZZ_STEPS)
		return &prog->steps[at];
	for (i = prog->nr++; i > at; i--)
		fuzz_copy_step(&prog->steps[i], &prog->steps[i - 1]);
	return &prog->steps[at];
}

static inline void fuzz_copy(struct fuzz_program *to, const struct fuzz_program *from)
{
	for (to->nr = 0; to->nr < from->nr; to->nr++)
		fuzz_copy_step(&to->steps[to->nr], &from->steps[to->nr]);
}

static inline void fuzz_splice(struct fuzz_program *prog, const struct fuzz_program *other)
{
	u32 at = fuzz_below(prog->nr + 1), from = fuzz_below(other->nr);
	u32 n = 1 + fuzz_below(other->nr - from);

	for (; n && at < FUZZ_STEPS; n--)
		fuzz_copy_step(&prog->steps[at++], &other->steps[from++]);
	if (prog->nr < at)
		prog->nr = at;
}

static inline void fuzz_append(struct fuzz_program *prog, const struct fuzz_program *other)
{
	u32 i;

	for (i = 0; i < other->nr && prog->nr < FUZZ_STEPS; i++)
		fuzz_copy_step(&prog->steps[prog->nr++], &other->steps[i]);
}

static inline void fuzz_mutate(struct fuzz_program *prog, const struct fuzz_program *other)
{
	u32 at = fuzz_below(prog->nr), from = fuzz_below(prog->nr);
	struct fuzz_step copy;

	switch (fuzz_below(8)) {
	case 0:
		if (prog->nr > 1)
			fuzz_remove(prog, at);
		break;
	case 1:
		fuzz_copy_step(&copy, &prog->steps[from]);
		fuzz_copy_step(fuzz_insert(prog, at), &copy);
		break;
	case 2:
	case 3:
		fuzz_make_step(fuzz_insert(prog, at));
		break;
	case 4:
		fuzz_splice(prog, other);
		break;
	default:
		fuzz_mutate_step(&prog->steps[at]);
	}
}

static inline void fuzz_make_program(struct fuzz_program *prog)
{
	u32 i;

	prog->nr = 1 + fuzz_below(fuzz_one_in(4) ? FUZZ_STEPS : 24);
	for (i = 0; i < prog->nr; i++) {
		fuzz_make_step(&prog->steps[i]);
		if (fuzz_one_in(6))
			fuzz_mutate_step(&prog->steps[i]);
	}
}

/* KVM, or the tool, ends the connection: what comes after it is lost. */
static inline bool fuzz_is_end(const struct fuzz_step *step)
{
	u32 count = fuzz_get(step, 0, sizeof(u16)), size = fuzz_get(step, 8, sizeof(u16));

	switch (step->op) {
	case FUZZ_MESSAGE:
		return step->sent != step->size || step->size > KVMI_MSG_SIZE ||
		       step->id == KVMI_VCPU_EVENT ||
		       (step->id == KVMI_VM_WRITE_PHYSICAL && step->size < 16 + size) ||
		       (step->id == KVMI_VM_SET_PAGE_ACCESS && count &&
			step->size < 8 + count * sizeof(struct kvmi_page_access_entry));
	case FUZZ_REPLY:
		return step->arg || step->sent != step->size || step->size < 16 ||
		       (step->size > 16 && step->size != 24) ||
		       (step->len && (!is_zero(step->data, min_t(u16, 8, step->len)) ||
				      fuzz_get(step, 8, 8) > KVMI_EVENT_ACTION_CRASH));
	case FUZZ_ANY_REPLY:
	case FUZZ_DEADLINE:
	case FUZZ_SHUTDOWN:
	case FUZZ_CLOSE:
	case FUZZ_UNHOOK:
		return true;
	default:
		return false;
	}
}

static inline void fuzz_remove_ends(struct fuzz_program *prog)
{
	u32 i;

	for (i = prog->nr; i-- > 0 && prog->nr > 1;) {
		if (fuzz_is_end(&prog->steps[i]))
			fuzz_remove(prog, i);
	}
}

#endif
