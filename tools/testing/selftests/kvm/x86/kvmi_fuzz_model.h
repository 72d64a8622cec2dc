/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: what KVM must make of the tool's bytes.
 *
 * The model reads the same stream as KVM does, so that broken framing needs no care. For
 * each message it knows which errors the reply may have (mostly one), where in the order of
 * replies that has its place, and whether the connection has to be closed. It knows nothing
 * of the guest: what depends on that may be one or the other.
 */
#ifndef KVMI_FUZZ_MODEL_H
#define KVMI_FUZZ_MODEL_H

#include "kvmi_fuzz_program.h"
#include "kvmi_util.h"

#define MODEL_QUEUE		BIT(17)

/* KVM queues so many commands for a vCPU, and so many pauses. */
#define MODEL_MAX_QUEUED	256

/* Errors, as bits. */
enum {
	MAY_SUCCEED = BIT(0), MAY_EPERM = BIT(1), MAY_ENOENT = BIT(2), MAY_EAGAIN = BIT(3),
	MAY_EBUSY = BIT(4), MAY_EINVAL = BIT(5), MAY_EOPNOTSUPP = BIT(6), MAY_ENOSYS = BIT(7),
	MUST_CLOSE = BIT(8),
};

struct expected {
	u32 seq;
	u16 id;
	u16 errors;
	u16 len;	/* of the reply data of a success */
};

struct expected_queue {
	u32 head, tail;
	struct expected *entries;
};

/* What the model knows of a vCPU. */
struct model_vcpu {
	struct expected_queue queue;
	u32 seq;		/* of its last event */
	u8 event;
	u64 new_value;		/* what the guest is about to write */
	bool waits;		/* for the reply to it */
	bool unsure;		/* if that is so */
	u32 enabled;		/* events that were, ever */
	u32 pauses;		/* PAUSE_VCPU, not yet answered by an event */
	u32 injections;
	bool stepped;
};

struct model {
	u32 commands, events;		/* that are allowed, as bits */
	u64 max_gfn, main_gfns;
	u8 stream[sizeof(struct kvmi_msg_hdr) + KVMI_MSG_SIZE];
	u32 have;
	bool must_close, may_close;
	u32 required;			/* replies to VM commands before that */
	struct expected_queue vm;
	struct model_vcpu vcpu[FUZZ_VCPUS];
	u32 event_seq;
	u32 unhooks;			/* PREUNHOOKs without their event */
	bool unhook_enabled;
	bool deadline;
	bool wild;			/* the guest may have been made to do anything */
	u64 messages;
};

static inline void model_init(struct model *model)
{
	struct expected_queue *queues[] = {
		&model->vm, &model->vcpu[0].queue, &model->vcpu[1].queue, &model->vcpu[2].queue,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(queues); i++) {
		queues[i]->entries = calloc(MODEL_QUEUE, sizeof(struct expected));
		TEST_ASSERT(queues[i]->entries, "No memory");
	}
}

/* A new connection, with everything allowed. */
static inline void model_reset(struct model *model)
{
	struct expected *entries;
	int i;

	for (i = 0; i < FUZZ_VCPUS; i++) {
		entries = model->vcpu[i].queue.entries;
		memset(&model->vcpu[i], 0, sizeof(model->vcpu[i]));
		model->vcpu[i].queue.entries = entries;
	}
	model->vm.head = 0;
	model->vm.tail = 0;
	model->commands = ~0u;
	model->events = ~0u;
	model->have = 0;
	model->must_close = false;
	model->may_close = false;
	model->event_seq = 0;
	model->unhooks = 0;
	model->unhook_enabled = false;
	model->deadline = false;
	model->wild = false;
}

static inline u32 model_pending(const struct expected_queue *queue)
{
	return queue->tail - queue->head;
}

static inline u32 model_all_pending(const struct model *model)
{
	u32 i, n = model_pending(&model->vm);

	for (i = 0; i < FUZZ_VCPUS; i++)
		n += model_pending(&model->vcpu[i].queue);
	return n;
}

static inline struct expected *model_entry(struct expected_queue *queue, u32 nr)
{
	return &queue->entries[nr % MODEL_QUEUE];
}

static inline void model_add(struct expected_queue *queue, const struct kvmi_msg_hdr *hdr,
			     u16 errors, u16 len)
{
	TEST_ASSERT(model_pending(queue) < MODEL_QUEUE, "Too many commands without replies");
	*model_entry(queue, queue->tail++) = (struct expected) {
		.seq = hdr->seq,
		.id = hdr->id,
		.errors = errors,
		.len = len,
	};
}

/* Whatever comes from now on need not be answered. */
static inline void model_may_close(struct model *model)
{
	if (!model->may_close && !model->must_close)
		model->required = model->vm.tail;
	model->may_close = true;
}

static inline void model_must_close(struct model *model)
{
	if (!model->may_close && !model->must_close)
		model->required = model->vm.tail;
	model->must_close = true;
}

static inline u64 get_field(const u8 *req, u32 offset, u32 width)
{
	u64 value = 0;

	memcpy(&value, req + offset, width);
	return value;
}

#define FIELD(type, field) \
	get_field(req, offsetof(struct type, field), sizeof(((struct type *)0)->field))

static inline bool model_is_memory(const struct model *model, u64 gpa)
{
	u64 gfn = gpa >> PAGE_SHIFT;

	return gfn < model->main_gfns || (gpa >= FUZZ_GPA && gfn < model->max_gfn);
}

static inline bool model_is_vcpu_event(u16 id)
{
	return id & 1 && id < KVMI_NEXT_VCPU_EVENT;
}

static inline u16 model_check_id(u32 allowed, u16 id, bool known, u64 padding)
{
	if (padding)
		return MAY_EINVAL;
	if (!known)
		return MAY_ENOENT;
	return allowed & BIT(id) ? MAY_SUCCEED : MAY_EPERM;
}

static inline u16 model_control_vm_events(struct model *model, const u8 *req)
{
	u8 enable = FIELD(kvmi_vm_control_events, enable);

	if (FIELD(kvmi_vm_control_events, padding1) || FIELD(kvmi_vm_control_events, padding2) ||
	    enable > 1 || FIELD(kvmi_vm_control_events, event_id) != KVMI_VM_EVENT_UNHOOK)
		return MAY_EINVAL;
	if (!(model->events & BIT(KVMI_VM_EVENT_UNHOOK)))
		return MAY_EPERM;
	model->unhook_enabled |= enable;
	return MAY_SUCCEED;
}

static inline u16 model_access_physical(struct model *model, const u8 *req, u16 *len)
{
	u64 gpa = FIELD(kvmi_vm_read_physical, gpa);
	u16 size = FIELD(kvmi_vm_read_physical, size);

	if (FIELD(kvmi_vm_read_physical, padding1) || FIELD(kvmi_vm_read_physical, padding2) ||
	    !size || gpa % PAGE_SIZE + size > PAGE_SIZE)
		return MAY_EINVAL;
	*len = size;
	return model_is_memory(model, gpa) ? MAY_SUCCEED : MAY_ENOENT;
}

static inline u16 model_pause(struct model *model, const u8 *req)
{
	u16 vcpu = FIELD(kvmi_vm_pause_vcpu, vcpu);

	if (FIELD(kvmi_vm_pause_vcpu, padding1) || FIELD(kvmi_vm_pause_vcpu, padding2) ||
	    FIELD(kvmi_vm_pause_vcpu, wait) > 1 || vcpu >= FUZZ_VCPUS)
		return MAY_EINVAL;
	if (!(model->events & BIT(KVMI_VCPU_EVENT_PAUSE)))
		return MAY_EPERM;
	return ++model->vcpu[vcpu].pauses > MODEL_MAX_QUEUED ? MAY_SUCCEED | MAY_EBUSY :
							      MAY_SUCCEED;
}

static inline u16 model_set_page_access(struct model *model, const u8 *req, u16 size)
{
	u32 i, at, count = FIELD(kvmi_vm_set_page_access, count);
	u16 errors = MAY_SUCCEED;
	u8 access;

	if (count && size < 8 + count * sizeof(struct kvmi_page_access_entry))
		return MUST_CLOSE;
	if (FIELD(kvmi_vm_set_page_access, padding1) || FIELD(kvmi_vm_set_page_access, padding2))
		return MAY_EINVAL;

	for (i = 0, at = 8; i < count; i++, at += sizeof(struct kvmi_page_access_entry)) {
		access = req[at + 8];
		if (access > 7 || access == 2 || access == 6 || !is_zero(req + at + 9, 7) ||
		    !model_is_memory(model, get_field(req, at, 8)))
			return MAY_EINVAL;
		/* If the processor can do that. */
		if (access == KVMI_PAGE_ACCESS_X)
			errors |= MAY_EINVAL;
	}
	return errors;
}

static inline u16 model_vm_command(struct model *model, const struct kvmi_msg_hdr *hdr,
				   const u8 *req, u16 *len)
{
	u16 id = FIELD(kvmi_vm_check_command, id), unused;
	u64 padding = FIELD(kvmi_vm_check_command, padding1) |
		      FIELD(kvmi_vm_check_command, padding2);

	switch (hdr->id) {
	case KVMI_GET_VERSION:
		*len = sizeof(struct kvmi_get_version_reply);
		return MAY_SUCCEED;
	case KVMI_VM_CHECK_COMMAND:
		return model_check_id(model->commands, id, fuzz_find_command(id), padding);
	case KVMI_VM_CHECK_EVENT:
		return model_check_id(model->events, id, id == KVMI_VM_EVENT_UNHOOK ||
				      model_is_vcpu_event(id), padding);
	case KVMI_VM_GET_INFO:
		*len = sizeof(struct kvmi_vm_get_info_reply);
		return MAY_SUCCEED;
	case KVMI_VM_CONTROL_EVENTS:
		return model_control_vm_events(model, req);
	case KVMI_VM_READ_PHYSICAL:
		return model_access_physical(model, req, len);
	case KVMI_VM_WRITE_PHYSICAL:
		if (hdr->size < sizeof(struct kvmi_vm_write_physical) +
				FIELD(kvmi_vm_write_physical, size))
			return MUST_CLOSE;
		model->wild |= FIELD(kvmi_vm_write_physical, gpa) < FUZZ_GPA;
		return model_access_physical(model, req, &unused);
	case KVMI_VM_PAUSE_VCPU:
		return model_pause(model, req);
	case KVMI_VM_CONTROL_CLEANUP:
		return req[0] > 1 || !is_zero(req + 1, 7) ? MAY_EINVAL : MAY_SUCCEED;
	case KVMI_VM_GET_MAX_GFN:
		*len = sizeof(struct kvmi_vm_get_max_gfn_reply);
		return MAY_SUCCEED;
	case KVMI_VM_SET_PAGE_ACCESS:
		return model_set_page_access(model, req, hdr->size);
	default:
		return MAY_ENOSYS;
	}
}

static inline u16 model_control_events(struct model *model, u16 vcpu, const u8 *req)
{
	u16 event = FIELD(kvmi_vcpu_control_events, event_id);
	u8 enable = FIELD(kvmi_vcpu_control_events, enable);

	if (FIELD(kvmi_vcpu_control_events, padding1) ||
	    FIELD(kvmi_vcpu_control_events, padding2) || enable > 1 || !model_is_vcpu_event(event))
		return MAY_EINVAL;
	if (!(model->events & BIT(event)))
		return MAY_EPERM;
	model->vcpu[vcpu].enabled |= enable << event;
	return event == KVMI_VCPU_EVENT_DESCRIPTOR ? MAY_SUCCEED | MAY_EOPNOTSUPP : MAY_SUCCEED;
}

static inline u16 model_get_registers(const u8 *req, u16 size, u16 *len)
{
	u32 nr = FIELD(kvmi_vcpu_get_registers, nmsrs);

	*len = sizeof(struct kvmi_vcpu_get_registers_reply) + nr * sizeof(struct kvm_msr_entry);
	if (FIELD(kvmi_vcpu_get_registers, padding1) || FIELD(kvmi_vcpu_get_registers, padding2) ||
	    size < 8 + nr * sizeof(u32) || nr > 481)
		return MAY_EINVAL;
	return nr ? MAY_SUCCEED | MAY_EINVAL : MAY_SUCCEED;
}

static inline u16 model_control_cr(const u8 *req)
{
	u8 cr = FIELD(kvmi_vcpu_control_cr, cr);

	if (FIELD(kvmi_vcpu_control_cr, padding1) || FIELD(kvmi_vcpu_control_cr, padding2) ||
	    FIELD(kvmi_vcpu_control_cr, enable) > 1 || (cr && cr != 3 && cr != 4))
		return MAY_EINVAL;
	return MAY_SUCCEED;
}

static inline u16 model_control_msr(const u8 *req)
{
	u32 msr = FIELD(kvmi_vcpu_control_msr, msr);

	if (FIELD(kvmi_vcpu_control_msr, padding1) || FIELD(kvmi_vcpu_control_msr, padding2) ||
	    FIELD(kvmi_vcpu_control_msr, enable) > 1 || (msr & ~0xc0000000) > 0x1fff ||
	    (msr >> 30 && msr >> 30 != 3) || (msr >= 0x800 && msr <= 0x8ff))
		return MAY_EINVAL;
	return MAY_SUCCEED;
}

static inline u16 model_inject(struct model *model, u16 vcpu, const u8 *req)
{
	u8 nr = FIELD(kvmi_vcpu_inject_exception, nr);

	if (!(model->events & BIT(KVMI_VCPU_EVENT_TRAP)))
		return MAY_EPERM;
	if (FIELD(kvmi_vcpu_inject_exception, padding1) ||
	    FIELD(kvmi_vcpu_inject_exception, padding2) || nr == 2 || nr == 9 || nr == 15 ||
	    nr > 19)
		return MAY_EINVAL;
	model->vcpu[vcpu].injections++;
	return MAY_SUCCEED | MAY_EBUSY;
}

static inline u16 model_singlestep(struct model *model, u16 vcpu, const u8 *req)
{
	if (req[0] && !(model->events & BIT(KVMI_VCPU_EVENT_SINGLESTEP)))
		return MAY_EPERM;
	if (req[0] > 1 || !is_zero(req + 1, 7))
		return MAY_EINVAL;
	model->vcpu[vcpu].stepped |= req[0];
	return MAY_SUCCEED;
}

/* @req and @size are without struct kvmi_vcpu_hdr. */
static inline u16 model_vcpu_command(struct model *model, u16 id, u16 vcpu, const u8 *req,
				     u16 size, u16 *len)
{
	switch (id) {
	case KVMI_VCPU_GET_INFO:
		*len = sizeof(struct kvmi_vcpu_get_info_reply);
		return MAY_SUCCEED;
	case KVMI_VCPU_CONTROL_EVENTS:
		return model_control_events(model, vcpu, req);
	case KVMI_VCPU_GET_REGISTERS:
		return model_get_registers(req, size, len);
	case KVMI_VCPU_SET_REGISTERS:
		model->wild = true;
		return size < sizeof(struct kvm_regs) ? MAY_EINVAL : MAY_SUCCEED | MAY_EOPNOTSUPP;
	case KVMI_VCPU_GET_CPUID:
		*len = sizeof(struct kvmi_vcpu_get_cpuid_reply);
		return MAY_SUCCEED | MAY_ENOENT;
	case KVMI_VCPU_CONTROL_CR:
		return model_control_cr(req);
	case KVMI_VCPU_INJECT_EXCEPTION:
		return model_inject(model, vcpu, req);
	case KVMI_VCPU_GET_XCR:
		*len = sizeof(struct kvmi_vcpu_get_xcr_reply);
		return is_zero(req, 8) ? MAY_SUCCEED : MAY_EINVAL;
	case KVMI_VCPU_GET_XSAVE:
		*len = sizeof(struct kvmi_vcpu_get_xsave_reply);
		return MAY_SUCCEED;
	case KVMI_VCPU_SET_XSAVE:
		return size < 4096 ? MAY_EINVAL : MAY_SUCCEED | MAY_EINVAL;
	case KVMI_VCPU_GET_MTRR_TYPE:
		*len = sizeof(struct kvmi_vcpu_get_mtrr_type_reply);
		return MAY_SUCCEED;
	case KVMI_VCPU_CONTROL_MSR:
		return model_control_msr(req);
	case KVMI_VCPU_CONTROL_SINGLESTEP:
		return model_singlestep(model, vcpu, req);
	default:
		*len = sizeof(struct kvmi_vcpu_translate_gva_reply);
		return MAY_SUCCEED;
	}
}

static inline u16 model_actions(u8 event)
{
	switch (event) {
	case KVMI_VCPU_EVENT_BREAKPOINT:
	case KVMI_VCPU_EVENT_DESCRIPTOR:
	case KVMI_VCPU_EVENT_PF:
		return BIT(KVMI_EVENT_ACTION_CONTINUE) | BIT(KVMI_EVENT_ACTION_RETRY) |
		       BIT(KVMI_EVENT_ACTION_CRASH);
	default:
		return BIT(KVMI_EVENT_ACTION_CONTINUE) | BIT(KVMI_EVENT_ACTION_CRASH);
	}
}

static inline bool model_has_reply_data(u8 event)
{
	return event == KVMI_VCPU_EVENT_CR || event == KVMI_VCPU_EVENT_MSR;
}

/* A reply to this event, whatever its seq, is as it has to be. */
static inline bool model_is_good_reply(const struct kvmi_vcpu_event_reply *reply, u16 size)
{
	return model_is_vcpu_event(reply->event) && reply->action < 8 &&
	       model_actions(reply->event) & BIT(reply->action) &&
	       size <= 16 + (model_has_reply_data(reply->event) ? 8 : 0);
}

static inline void model_event_reply(struct model *model, const struct kvmi_msg_hdr *hdr,
				     const u8 *req)
{
	struct kvmi_vcpu_event_reply reply;
	struct kvmi_vcpu_hdr vcpu;
	struct model_vcpu *to;

	memcpy(&vcpu, req, sizeof(vcpu));
	memcpy(&reply, req + sizeof(vcpu), sizeof(reply));
	if (hdr->size < sizeof(vcpu) + sizeof(reply) || vcpu.padding1 || vcpu.padding2 ||
	    reply.padding1 || reply.padding2 || vcpu.vcpu >= FUZZ_RUNNING)
		return model_must_close(model);
	to = &model->vcpu[vcpu.vcpu];

	/* Another value for CR3, for example. */
	if (reply.event == KVMI_VCPU_EVENT_CR && get_field(req, 16, 8) != to->new_value)
		model->wild = true;

	/* It may be late, it may be a reply to an event that was not read yet. */
	if (model->deadline || to->unsure) {
		to->unsure = true;
		return model_may_close(model);
	}
	if (!model_is_good_reply(&reply, hdr->size))
		return model_must_close(model);
	if (to->waits) {
		if (hdr->seq != to->seq || reply.event != to->event)
			return model_must_close(model);
		to->waits = false;
		return;
	}
	/* There is at most one of each vCPU. */
	if (hdr->seq - model->event_seq - 1 >= FUZZ_RUNNING + model->unhooks)
		return model_must_close(model);
	to->unsure = true;
	model_may_close(model);
}

static inline void model_command(struct model *model, const struct kvmi_msg_hdr *hdr,
				 const u8 *data)
{
	const struct fuzz_command *cmd = fuzz_find_command(hdr->id);
	struct expected_queue *queue = &model->vm;
	struct kvmi_vcpu_hdr vcpu;
	u16 errors, len = 0, size;

	if (!cmd) {
		errors = MAY_ENOSYS;
	} else if (!(model->commands & BIT(hdr->id))) {
		errors = MAY_EPERM;
	} else if (!(hdr->id & 1)) {
		errors = model_vm_command(model, hdr, data, &len);
	} else {
		memcpy(&vcpu, data, sizeof(vcpu));
		if (vcpu.padding1 || vcpu.padding2 || vcpu.vcpu >= FUZZ_VCPUS) {
			errors = MAY_EINVAL;
		} else if (vcpu.vcpu >= FUZZ_RUNNING) {
			errors = MAY_EAGAIN;
		} else {
			queue = &model->vcpu[vcpu.vcpu].queue;
			size = hdr->size > sizeof(vcpu) ? hdr->size - sizeof(vcpu) : 0;
			errors = model_vcpu_command(model, hdr->id, vcpu.vcpu, data + sizeof(vcpu),
						    size, &len);
			if (model_pending(queue) >= MODEL_MAX_QUEUED)
				errors |= MAY_EBUSY;
		}
	}

	if (errors == MUST_CLOSE)
		model_must_close(model);
	else
		model_add(queue, hdr, errors, len);
}

/* How many bytes are missing in the message that is not complete, 0 if there is none. */
static inline u32 model_missing(const struct model *model)
{
	struct kvmi_msg_hdr hdr;

	if (!model->have)
		return 0;
	if (model->have < sizeof(hdr))
		return sizeof(hdr) - model->have;
	memcpy(&hdr, model->stream, sizeof(hdr));
	return sizeof(hdr) + hdr.size - model->have;
}

static inline void model_message(struct model *model)
{
	/* A short request is as if it ended with zeros. */
	static u8 data[KVMI_MSG_SIZE + 8192];
	struct kvmi_msg_hdr hdr;

	memcpy(&hdr, model->stream, sizeof(hdr));
	memcpy(data, model->stream + sizeof(hdr), hdr.size);
	memset(data + hdr.size, 0, 64);
	model->have = 0;
	model->messages++;

	if (hdr.id == KVMI_VCPU_EVENT)
		model_event_reply(model, &hdr, data);
	else
		model_command(model, &hdr, data);
}

/* The tool has written @len bytes. */
static inline void model_feed(struct model *model, const u8 *bytes, u32 len)
{
	struct kvmi_msg_hdr hdr;
	u32 n;

	while (!model->must_close) {
		if (model->have == sizeof(hdr)) {
			memcpy(&hdr, model->stream, sizeof(hdr));
			if (hdr.size > KVMI_MSG_SIZE)
				return model_must_close(model);
		}
		if (model->have >= sizeof(hdr) && !model_missing(model)) {
			model_message(model);
			continue;
		}
		if (!len)
			return;
		n = model->have ? model_missing(model) : sizeof(hdr);
		n = min(n, len);
		memcpy(model->stream + model->have, bytes, n);
		model->have += n;
		bytes += n;
		len -= n;
	}
}

#endif
