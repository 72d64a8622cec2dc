// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve: what a command has switched on in a VM and not off again, and the
 * registers that it has set for a reply that it did not send.
 *
 * Whether KVM did what it was told does not matter: off is off.
 */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "serve.h"

struct item {
	__u32 id;	/* of the command */
	__u32 vcpu;
	__u64 what;
};

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct item));
}

static void set(struct left *left, __u32 id, __u32 vcpu, __u64 what, bool on)
{
	const struct item key = { id, vcpu, what };
	struct item *item, **found = tfind(&key, &left->tree, compare);

	if (on && !found) {
		item = malloc(sizeof(*item));
		if (item) {
			*item = key;
			if (!tsearch(item, &left->tree, compare))
				free(item);
		}
		/* Not to be remembered is not to be found off again. */
		left->nr++;
	} else if (!on && found) {
		item = *found;
		tdelete(&key, &left->tree, compare);
		free(item);
		left->nr--;
	}
}

static void note_pages(struct left *left, __u32 id, const __u8 *data, size_t size)
{
	const __u8 all = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X;
	struct kvmi_vm_set_page_access req;
	struct kvmi_page_access_entry entry;
	size_t at;

	for (at = sizeof(req); at + sizeof(entry) <= size; at += sizeof(entry)) {
		memcpy(&entry, data + at, sizeof(entry));
		set(left, id, 0, entry.gpa >> 12, entry.access != all);
	}
}

static void note_vm_command(struct left *left, const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_vm_control_events events = { 0 };
	__u8 enable = 0;

	switch (hdr->id) {
	case KVMI_VM_CONTROL_EVENTS:
		memcpy(&events, data, hdr->size < sizeof(events) ? hdr->size : sizeof(events));
		set(left, hdr->id, 0, events.event_id, events.enable);
		break;
	case KVMI_VM_CONTROL_CLEANUP:
		memcpy(&enable, data, hdr->size ? 1 : 0);
		set(left, hdr->id, 0, 0, !enable);
		break;
	case KVMI_VM_SET_PAGE_ACCESS:
		note_pages(left, hdr->id, data, hdr->size);
		break;
	}
}

/* Look at a command. */
void left_note(struct left *left, const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct {
		struct kvmi_vcpu_hdr vcpu;
		union {
			struct kvmi_vcpu_control_events events;
			struct kvmi_vcpu_control_cr cr;
			struct kvmi_vcpu_control_msr msr;
			struct kvmi_vcpu_control_singlestep step;
		};
	} req = { 0 };
	__u32 vcpu;

	if (!(hdr->id & 1)) {
		note_vm_command(left, hdr, data);
		return;
	}

	memcpy(&req, data, hdr->size < sizeof(req) ? hdr->size : sizeof(req));
	vcpu = req.vcpu.vcpu;
	switch (hdr->id) {
	case KVMI_VCPU_CONTROL_EVENTS:
		set(left, hdr->id, vcpu, req.events.event_id, req.events.enable);
		break;
	case KVMI_VCPU_CONTROL_CR:
		set(left, hdr->id, vcpu, req.cr.cr, req.cr.enable);
		break;
	case KVMI_VCPU_CONTROL_MSR:
		set(left, hdr->id, vcpu, req.msr.msr, req.msr.enable);
		break;
	case KVMI_VCPU_CONTROL_SINGLESTEP:
		set(left, hdr->id, vcpu, 0, req.step.enable);
		break;
	case KVMI_VCPU_SET_REGISTERS:
		set(left, hdr->id, vcpu, 0, true);
		break;
	}
}

/* The vCPU gets its reply, and with it the registers. */
void left_note_reply(struct left *left, __u32 vcpu)
{
	set(left, KVMI_VCPU_SET_REGISTERS, vcpu, 0, false);
}

void left_forget(struct left *left)
{
	tdestroy(left->tree, free);
	left->tree = NULL;
	left->nr = 0;
}
