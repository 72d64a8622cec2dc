/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: is what KVM sends what the model has said.
 */
#ifndef KVMI_FUZZ_CHECK_H
#define KVMI_FUZZ_CHECK_H

#include "kvmi_fuzz_model.h"

/* Says which program it was, and ends the test. */
void fuzz_fail(const char *format, ...) __printf(1, 2);

#define FUZZ_ASSERT(condition, format, ...)				\
	do {								\
		if (!(condition))					\
			fuzz_fail(format, ##__VA_ARGS__);		\
	} while (0)

static inline u16 check_error_bit(s32 err)
{
	switch (err) {
	case 0:
		return MAY_SUCCEED;
	case -KVM_EPERM:
		return MAY_EPERM;
	case -KVM_ENOENT:
		return MAY_ENOENT;
	case -KVM_EAGAIN:
		return MAY_EAGAIN;
	case -KVM_EBUSY:
		return MAY_EBUSY;
	case -KVM_EINVAL:
		return MAY_EINVAL;
	case -KVM_EOPNOTSUPP:
		return MAY_EOPNOTSUPP;
	case -KVM_ENOSYS:
		return MAY_ENOSYS;
	default:
		return 0;
	}
}

static inline bool check_is_first(struct expected_queue *queue, const struct kvmi_msg_hdr *hdr,
				  u16 error)
{
	struct expected *first = model_entry(queue, queue->head);

	return model_pending(queue) && first->id == hdr->id && first->seq == hdr->seq &&
	       first->errors & error;
}

/* A command that was refused since there are too many overtakes those. */
static inline bool check_take_refused(struct expected_queue *queue,
				      const struct kvmi_msg_hdr *hdr)
{
	struct expected *entry;
	u32 i, j;

	for (i = queue->head; i != queue->tail; i++) {
		entry = model_entry(queue, i);
		if (entry->id != hdr->id || entry->seq != hdr->seq || !(entry->errors & MAY_EBUSY))
			continue;
		for (j = i; j != queue->head; j--)
			*model_entry(queue, j) = *model_entry(queue, j - 1);
		queue->head++;
		return true;
	}

	return false;
}

/* Finds what it is the reply to; returns how much data it may have. */
static inline u16 check_take(struct model *model, const struct kvmi_msg_hdr *hdr, s32 err)
{
	u16 error = check_error_bit(err);
	struct expected_queue *queue;
	struct expected *first;
	int i;

	if (check_is_first(&model->vm, hdr, error))
		return model_entry(&model->vm, model->vm.head++)->len;

	for (i = 0; i < FUZZ_RUNNING; i++) {
		queue = &model->vcpu[i].queue;
		if (check_is_first(queue, hdr, error))
			return model_entry(queue, queue->head++)->len;
	}
	for (i = 0; err == -KVM_EBUSY && i < FUZZ_RUNNING; i++) {
		if (check_take_refused(&model->vcpu[i].queue, hdr))
			return 0;
	}

	for (i = -1; i < FUZZ_RUNNING; i++) {
		queue = i < 0 ? &model->vm : &model->vcpu[i].queue;
		first = model_entry(queue, queue->head);
		if (model_pending(queue))
			ksft_print_msg("Expected: %u seq %x, errors %x\n", first->id, first->seq,
				       first->errors);
	}
	fuzz_fail("Unexpected reply to message %u seq %x: error %d", hdr->id, hdr->seq, err);
	return 0;
}

static inline bool check_is_mode(u32 mode)
{
	return mode == 2 || mode == 4 || mode == 8;
}

static inline void check_reply_data(const struct model *model, u16 id, const u8 *data)
{
	const struct kvmi_vcpu_get_registers_reply *regs = (void *)data;
	const struct kvmi_vcpu_get_mtrr_type_reply *mtrr = (void *)data;
	const struct kvmi_get_version_reply *version = (void *)data;
	const struct kvmi_vm_get_info_reply *info = (void *)data;

	switch (id) {
	case KVMI_GET_VERSION:
		FUZZ_ASSERT(version->version == KVMI_VERSION && version->features.singlestep == 1 &&
			    version->max_msg_size == KVMI_MSG_SIZE &&
			    is_zero(version->features.padding, 7), "Version");
		break;
	case KVMI_VM_GET_INFO:
		FUZZ_ASSERT(info->vcpu_count == FUZZ_VCPUS && is_zero(info->padding, 12), "Info");
		break;
	case KVMI_VM_GET_MAX_GFN:
		FUZZ_ASSERT(get_field(data, 0, 8) == model->max_gfn, "Highest gfn");
		break;
	case KVMI_VCPU_GET_REGISTERS:
		FUZZ_ASSERT(!regs->padding && !regs->msrs.pad && check_is_mode(regs->mode),
			    "Registers");
		break;
	case KVMI_VCPU_GET_MTRR_TYPE:
		FUZZ_ASSERT(mtrr->type < 7 && mtrr->type != 2 && mtrr->type != 3 &&
			    is_zero(mtrr->padding, 7), "Memory type");
		break;
	}
}

static inline void check_reply(struct model *model, const struct kvmi_msg_hdr *hdr,
			       const u8 *data)
{
	struct kvmi_error_code ec;
	u16 len;

	FUZZ_ASSERT(hdr->size >= sizeof(ec), "Reply of %u bytes", hdr->size);
	memcpy(&ec, data, sizeof(ec));
	FUZZ_ASSERT(!ec.padding, "Padding of a reply");
	len = check_take(model, hdr, ec.err);
	FUZZ_ASSERT(hdr->size == sizeof(ec) + (ec.err ? 0 : len),
		    "Reply to %u of %u bytes, expected %u", hdr->id, hdr->size, len);
	if (!ec.err)
		check_reply_data(model, hdr->id, data + sizeof(ec));
}

/* The events that carry data; their padding. */
struct fuzz_payload {
	u8 size;
	u8 padding, padding_len;
};

static inline struct fuzz_payload check_payload(u8 event)
{
	static const struct fuzz_payload payloads[KVMI_NEXT_VCPU_EVENT] = {
		[KVMI_VCPU_EVENT_BREAKPOINT] = { sizeof(struct kvmi_vcpu_event_breakpoint), 9, 7 },
		[KVMI_VCPU_EVENT_CR] = { sizeof(struct kvmi_vcpu_event_cr), 1, 7 },
		[KVMI_VCPU_EVENT_TRAP] = { sizeof(struct kvmi_vcpu_event_trap), 1, 3 },
		[KVMI_VCPU_EVENT_XSETBV] = { sizeof(struct kvmi_vcpu_event_xsetbv), 1, 7 },
		[KVMI_VCPU_EVENT_DESCRIPTOR] = { sizeof(struct kvmi_vcpu_event_descriptor), 2, 6 },
		[KVMI_VCPU_EVENT_MSR] = { sizeof(struct kvmi_vcpu_event_msr), 4, 4 },
		[KVMI_VCPU_EVENT_PF] = { sizeof(struct kvmi_vcpu_event_pf), 17, 7 },
		[KVMI_VCPU_EVENT_SINGLESTEP] = { sizeof(struct kvmi_vcpu_event_singlestep), 0, 8 },
	};

	return payloads[event];
}

/* The tool has asked for it. */
static inline bool check_is_wanted(struct model_vcpu *vcpu, u8 event)
{
	switch (event) {
	case KVMI_VCPU_EVENT_PAUSE:
		return vcpu->pauses && vcpu->pauses--;
	case KVMI_VCPU_EVENT_TRAP:
		return vcpu->injections && vcpu->injections--;
	case KVMI_VCPU_EVENT_SINGLESTEP:
		return vcpu->stepped;
	default:
		return vcpu->enabled & BIT(event);
	}
}

static inline void check_vcpu_event(struct model *model, const struct kvmi_ev *ev)
{
	const struct kvmi_vcpu_event_arch *arch = &ev->common.arch;
	const struct kvmi_vcpu_event_msr *msr = (void *)ev->payload;
	const struct kvmi_vcpu_event_cr *cr = (void *)ev->payload;
	u16 event = ev->event.event;
	struct fuzz_payload payload;
	struct model_vcpu *vcpu;

	FUZZ_ASSERT(model_is_vcpu_event(event), "Event %u", event);
	payload = check_payload(event);
	FUZZ_ASSERT(ev->hdr.size == KVMI_EVENT_SIZE + payload.size, "Event %u of %u bytes", event,
		    ev->hdr.size);
	FUZZ_ASSERT(ev->common.size == sizeof(ev->common) && !ev->common.padding &&
		    is_zero(arch->padding, 7) && !arch->sregs.cs.padding &&
		    is_zero(arch->sregs.gdt.padding, 6) &&
		    is_zero(ev->payload + payload.padding, payload.padding_len),
		    "Padding of event %u", event);
	FUZZ_ASSERT(check_is_mode(arch->mode), "Mode %u", arch->mode);
	FUZZ_ASSERT(ev->common.vcpu < FUZZ_RUNNING, "Event %u of vCPU %u", event, ev->common.vcpu);

	vcpu = &model->vcpu[ev->common.vcpu];
	FUZZ_ASSERT(check_is_wanted(vcpu, event), "Nobody wants event %u", event);
	FUZZ_ASSERT(!vcpu->waits || vcpu->unsure || model->deadline,
		    "Event %u of vCPU %u, which waits for a reply", event, ev->common.vcpu);
	vcpu->waits = true;
	vcpu->event = event;
	vcpu->seq = ev->hdr.seq;
	vcpu->new_value = event == KVMI_VCPU_EVENT_CR ? cr->new_value : msr->new_value;
}

static inline void check_event(struct model *model, const struct kvmi_msg_hdr *hdr,
			       const u8 *data)
{
	static struct kvmi_ev ev;

	FUZZ_ASSERT(hdr->size >= sizeof(ev.event) &&
		    hdr->size <= KVMI_EVENT_SIZE + KVMI_MAX_PAYLOAD, "Event of %u bytes",
		    hdr->size);
	memset(&ev, 0, sizeof(ev));
	ev.hdr = *hdr;
	memcpy(&ev.event, data, hdr->size);
	FUZZ_ASSERT(is_zero(ev.event.padding, 6), "Padding of an event");
	FUZZ_ASSERT(hdr->seq == ++model->event_seq, "Event seq %u, expected %u", hdr->seq,
		    model->event_seq);
	if (hdr->id == KVMI_VCPU_EVENT)
		return check_vcpu_event(model, &ev);

	FUZZ_ASSERT(ev.event.event == KVMI_VM_EVENT_UNHOOK && hdr->size == sizeof(ev.event) &&
		    model->unhook_enabled && model->unhooks--, "Unexpected event of the VM");
}

static inline void check_message(struct model *model, const struct kvmi_msg_hdr *hdr,
				 const u8 *data)
{
	if (hdr->id == KVMI_VM_EVENT || hdr->id == KVMI_VCPU_EVENT)
		/* An unknown id, however: KVM has no command 0. */
		if (hdr->id == KVMI_VCPU_EVENT || hdr->size != sizeof(struct kvmi_error_code) ||
		    !check_is_first(&model->vm, hdr, MAY_ENOSYS))
			return check_event(model, hdr, data);
	check_reply(model, hdr, data);
}

#endif
