/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * KVM introspection: the wire protocol between KVM and an introspection tool.
 *
 * Every message is a struct kvmi_msg_hdr and kvmi_msg_hdr.size bytes of data,
 * in host byte order, over a stream socket. The tool sends commands and event
 * replies, KVM sends command replies and events. See
 * Documentation/virt/kvm/kvmi.rst.
 */
#ifndef _UAPI__LINUX_KVMI_H
#define _UAPI__LINUX_KVMI_H

#include <linux/kvm.h>
#include <linux/types.h>
#include <asm/kvmi.h>

enum {
	KVMI_VERSION = 0x00000001
};

/* Messages for the VM have even ids, messages for a vCPU odd ones. */
#define KVMI_VM_MESSAGE_ID(id)   ((id) << 1)
#define KVMI_VCPU_MESSAGE_ID(id) (((id) << 1) | 1)

enum {
	KVMI_VM_EVENT = KVMI_VM_MESSAGE_ID(0),

	KVMI_GET_VERSION        = KVMI_VM_MESSAGE_ID(1),
	KVMI_VM_CHECK_COMMAND   = KVMI_VM_MESSAGE_ID(2),
	KVMI_VM_CHECK_EVENT     = KVMI_VM_MESSAGE_ID(3),
	KVMI_VM_GET_INFO        = KVMI_VM_MESSAGE_ID(4),
	KVMI_VM_CONTROL_EVENTS  = KVMI_VM_MESSAGE_ID(5),
	KVMI_VM_READ_PHYSICAL   = KVMI_VM_MESSAGE_ID(6),
	KVMI_VM_WRITE_PHYSICAL  = KVMI_VM_MESSAGE_ID(7),
	KVMI_VM_PAUSE_VCPU      = KVMI_VM_MESSAGE_ID(8),
	KVMI_VM_CONTROL_CLEANUP = KVMI_VM_MESSAGE_ID(9),
	KVMI_VM_GET_MAX_GFN     = KVMI_VM_MESSAGE_ID(10),
	KVMI_VM_SET_PAGE_ACCESS = KVMI_VM_MESSAGE_ID(11),

	KVMI_NEXT_VM_MESSAGE
};

enum {
	KVMI_VCPU_EVENT = KVMI_VCPU_MESSAGE_ID(0),

	KVMI_VCPU_GET_INFO           = KVMI_VCPU_MESSAGE_ID(1),
	KVMI_VCPU_CONTROL_EVENTS     = KVMI_VCPU_MESSAGE_ID(2),
	KVMI_VCPU_GET_REGISTERS      = KVMI_VCPU_MESSAGE_ID(3),
	KVMI_VCPU_SET_REGISTERS      = KVMI_VCPU_MESSAGE_ID(4),
	KVMI_VCPU_GET_CPUID          = KVMI_VCPU_MESSAGE_ID(5),
	KVMI_VCPU_CONTROL_CR         = KVMI_VCPU_MESSAGE_ID(6),
	KVMI_VCPU_INJECT_EXCEPTION   = KVMI_VCPU_MESSAGE_ID(7),
	KVMI_VCPU_GET_XCR            = KVMI_VCPU_MESSAGE_ID(8),
	KVMI_VCPU_GET_XSAVE          = KVMI_VCPU_MESSAGE_ID(9),
	KVMI_VCPU_SET_XSAVE          = KVMI_VCPU_MESSAGE_ID(10),
	KVMI_VCPU_GET_MTRR_TYPE      = KVMI_VCPU_MESSAGE_ID(11),
	KVMI_VCPU_CONTROL_MSR        = KVMI_VCPU_MESSAGE_ID(12),
	KVMI_VCPU_CONTROL_SINGLESTEP = KVMI_VCPU_MESSAGE_ID(13),
	KVMI_VCPU_TRANSLATE_GVA      = KVMI_VCPU_MESSAGE_ID(14),

	KVMI_NEXT_VCPU_MESSAGE
};

#define KVMI_VM_EVENT_ID(id)   ((id) << 1)
#define KVMI_VCPU_EVENT_ID(id) (((id) << 1) | 1)

enum {
	KVMI_VM_EVENT_UNHOOK = KVMI_VM_EVENT_ID(0),

	KVMI_NEXT_VM_EVENT
};

enum {
	KVMI_VCPU_EVENT_PAUSE      = KVMI_VCPU_EVENT_ID(0),
	KVMI_VCPU_EVENT_HYPERCALL  = KVMI_VCPU_EVENT_ID(1),
	KVMI_VCPU_EVENT_BREAKPOINT = KVMI_VCPU_EVENT_ID(2),
	KVMI_VCPU_EVENT_CR         = KVMI_VCPU_EVENT_ID(3),
	KVMI_VCPU_EVENT_TRAP       = KVMI_VCPU_EVENT_ID(4),
	KVMI_VCPU_EVENT_XSETBV     = KVMI_VCPU_EVENT_ID(5),
	KVMI_VCPU_EVENT_DESCRIPTOR = KVMI_VCPU_EVENT_ID(6),
	KVMI_VCPU_EVENT_MSR        = KVMI_VCPU_EVENT_ID(7),
	KVMI_VCPU_EVENT_PF         = KVMI_VCPU_EVENT_ID(8),
	KVMI_VCPU_EVENT_SINGLESTEP = KVMI_VCPU_EVENT_ID(9),

	KVMI_NEXT_VCPU_EVENT
};

/* What KVM does with the vCPU after an event, see struct kvmi_vcpu_event_reply. */
enum {
	KVMI_EVENT_ACTION_CONTINUE = 0,
	KVMI_EVENT_ACTION_RETRY    = 1,
	KVMI_EVENT_ACTION_CRASH    = 2,
};

/**
 * struct kvmi_msg_hdr - starts every message
 * @id: KVMI_*; a reply has the id of its command
 * @size: bytes after this header, at most KVMI_MSG_SIZE
 * @seq: command: chosen by the tool; command reply: that of the command;
 *       event: counted by KVM; event reply: that of the event
 */
struct kvmi_msg_hdr {
	__u16 id;
	__u16 size;
	__u32 seq;
};

/* The largest kvmi_msg_hdr.size: a message and its header are two pages. */
#define KVMI_MSG_SIZE (4096 * 2 - sizeof(struct kvmi_msg_hdr))

/**
 * struct kvmi_error_code - follows the header in every command reply
 * @err: 0, or a negative KVM error code (-KVM_EINVAL, ...)
 * @padding: zero
 *
 * The reply data of the command follows only when @err is 0.
 */
struct kvmi_error_code {
	__s32 err;
	__u32 padding;
};

/**
 * struct kvmi_get_version_reply - reply data of KVMI_GET_VERSION
 * @version: KVMI_VERSION
 * @max_msg_size: KVMI_MSG_SIZE
 * @features: what this host can do
 */
struct kvmi_get_version_reply {
	__u32 version;
	__u32 max_msg_size;
	struct kvmi_features features;
};

/**
 * struct kvmi_vm_check_command - KVMI_VM_CHECK_COMMAND
 * @id: the message id that is asked about
 * @padding1: zero
 * @padding2: zero
 */
struct kvmi_vm_check_command {
	__u16 id;
	__u16 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vm_check_event - KVMI_VM_CHECK_EVENT
 * @id: the event id that is asked about
 * @padding1: zero
 * @padding2: zero
 */
struct kvmi_vm_check_event {
	__u16 id;
	__u16 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vm_get_info_reply - reply data of KVMI_VM_GET_INFO
 * @vcpu_count: number of vCPUs; vCPU indexes are below it
 * @padding: zero
 */
struct kvmi_vm_get_info_reply {
	__u32 vcpu_count;
	__u32 padding[3];
};

/**
 * struct kvmi_vm_control_events - KVMI_VM_CONTROL_EVENTS
 * @event_id: KVMI_VM_EVENT_*
 * @enable: 1 to enable, 0 to disable
 * @padding1: zero
 * @padding2: zero
 */
struct kvmi_vm_control_events {
	__u16 event_id;
	__u8 enable;
	__u8 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vm_read_physical - KVMI_VM_READ_PHYSICAL
 * @gpa: guest physical address, bytes
 * @size: 1 to 4096 bytes, within one 4 KiB page
 * @padding1: zero
 * @padding2: zero
 *
 * The reply data is @size bytes of guest memory.
 */
struct kvmi_vm_read_physical {
	__u64 gpa;
	__u16 size;
	__u16 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vm_write_physical - KVMI_VM_WRITE_PHYSICAL
 * @gpa: guest physical address, bytes
 * @size: 1 to 4096 bytes, within one 4 KiB page
 * @padding1: zero
 * @padding2: zero
 * @data: @size bytes
 */
struct kvmi_vm_write_physical {
	__u64 gpa;
	__u16 size;
	__u16 padding1;
	__u32 padding2;
	__u8  data[];
};

/**
 * struct kvmi_vm_pause_vcpu - KVMI_VM_PAUSE_VCPU
 * @vcpu: vCPU index
 * @wait: 1: reply only after the vCPU has left guest mode
 * @padding1: zero
 * @padding2: zero
 */
struct kvmi_vm_pause_vcpu {
	__u16 vcpu;
	__u8 wait;
	__u8 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vm_control_cleanup - KVMI_VM_CONTROL_CLEANUP
 * @enable: 1 (the default): the interceptions that the tool asked for are
 *          dropped when introspection ends; 0: they stay until the VM ends
 * @padding: zero
 */
struct kvmi_vm_control_cleanup {
	__u8 enable;
	__u8 padding[7];
};

/**
 * struct kvmi_vm_get_max_gfn_reply - reply data of KVMI_VM_GET_MAX_GFN
 * @gfn: the first guest frame number (4 KiB) past the highest guest memory
 */
struct kvmi_vm_get_max_gfn_reply {
	__u64 gfn;
};

/* kvmi_page_access_entry.access, kvmi_vcpu_event_pf.access */
enum {
	KVMI_PAGE_ACCESS_R = 1 << 0,
	KVMI_PAGE_ACCESS_W = 1 << 1,
	KVMI_PAGE_ACCESS_X = 1 << 2,
};

/**
 * struct kvmi_page_access_entry - what the guest may do with a page
 * @gpa: guest physical address of the page, 4 KiB
 * @access: KVMI_PAGE_ACCESS_* that are allowed; all of them: no restriction
 * @padding: zero
 */
struct kvmi_page_access_entry {
	__u64 gpa;
	__u8 access;
	__u8 padding[7];
};

/**
 * struct kvmi_vm_set_page_access - KVMI_VM_SET_PAGE_ACCESS
 * @count: number of entries; 511 fit into a message
 * @padding1: zero
 * @padding2: zero
 * @entries: the pages
 */
struct kvmi_vm_set_page_access {
	__u16 count;
	__u16 padding1;
	__u32 padding2;
	struct kvmi_page_access_entry entries[];
};

/**
 * struct kvmi_vcpu_hdr - starts the data of every vCPU command and event reply
 * @vcpu: vCPU index
 * @padding1: zero
 * @padding2: zero
 */
struct kvmi_vcpu_hdr {
	__u16 vcpu;
	__u16 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vcpu_control_events - KVMI_VCPU_CONTROL_EVENTS
 * @event_id: KVMI_VCPU_EVENT_*
 * @enable: 1 to enable, 0 to disable
 * @padding1: zero
 * @padding2: zero
 */
struct kvmi_vcpu_control_events {
	__u16 event_id;
	__u8 enable;
	__u8 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vcpu_control_singlestep - KVMI_VCPU_CONTROL_SINGLESTEP
 * @enable: 1: each instruction raises KVMI_VCPU_EVENT_SINGLESTEP, 0: none does
 * @padding: zero
 */
struct kvmi_vcpu_control_singlestep {
	__u8 enable;
	__u8 padding[7];
};

/**
 * struct kvmi_vcpu_translate_gva - KVMI_VCPU_TRANSLATE_GVA
 * @gva: guest virtual address
 */
struct kvmi_vcpu_translate_gva {
	__u64 gva;
};

/**
 * struct kvmi_vcpu_translate_gva_reply - reply data of KVMI_VCPU_TRANSLATE_GVA
 * @gpa: guest physical address, all ones if there is none
 */
struct kvmi_vcpu_translate_gva_reply {
	__u64 gpa;
};

/**
 * struct kvmi_event_hdr - starts the data of every event
 * @event: KVMI_VM_EVENT_* or KVMI_VCPU_EVENT_*
 * @padding: zero
 */
struct kvmi_event_hdr {
	__u16 event;
	__u16 padding[3];
};

/**
 * struct kvmi_vcpu_event - follows struct kvmi_event_hdr in every vCPU event
 * @size: size of this struct, bytes
 * @vcpu: vCPU index
 * @padding: zero
 * @arch: state of the vCPU
 *
 * The payload of the event (struct kvmi_vcpu_event_*) follows.
 */
struct kvmi_vcpu_event {
	__u16 size;
	__u16 vcpu;
	__u32 padding;
	struct kvmi_vcpu_event_arch arch;
};

/**
 * struct kvmi_vcpu_event_reply - the tool's verdict on a vCPU event
 * @action: KVMI_EVENT_ACTION_*
 * @event: the KVMI_VCPU_EVENT_* that is answered
 * @padding1: zero
 * @padding2: zero
 *
 * Comes after struct kvmi_vcpu_hdr in a KVMI_VCPU_EVENT message from the tool.
 * The reply data of the event, if it has any, follows.
 */
struct kvmi_vcpu_event_reply {
	__u8 action;
	__u8 event;
	__u16 padding1;
	__u32 padding2;
};

/**
 * struct kvmi_vcpu_event_pf - payload of KVMI_VCPU_EVENT_PF
 * @gva: guest virtual address of the access, all ones if it is not known
 * @gpa: guest physical address of the access, bytes
 * @access: KVMI_PAGE_ACCESS_* that were wanted
 * @padding1: zero
 * @padding2: zero
 * @padding3: zero
 */
struct kvmi_vcpu_event_pf {
	__u64 gva;
	__u64 gpa;
	__u8 access;
	__u8 padding1;
	__u16 padding2;
	__u32 padding3;
};

/**
 * struct kvmi_vcpu_event_singlestep - payload of KVMI_VCPU_EVENT_SINGLESTEP
 * @failed: 1: something ended the step before it was done; KVM on x86 finishes
 *          every step
 * @padding: zero
 */
struct kvmi_vcpu_event_singlestep {
	__u8 failed;
	__u8 padding[7];
};

#endif /* _UAPI__LINUX_KVMI_H */
