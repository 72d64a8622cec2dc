/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvmi

#if !defined(_TRACE_KVMI_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVMI_H

#include <linux/kvmi_host.h>
#include <linux/tracepoint.h>
#include <linux/uuid.h>

#define kvmi_message_name(id)						\
	__print_symbolic(id,						\
		{ KVMI_GET_VERSION,		"get-version" },	\
		{ KVMI_VM_CHECK_COMMAND,	"vm-check-command" },	\
		{ KVMI_VM_CHECK_EVENT,		"vm-check-event" },	\
		{ KVMI_VM_GET_INFO,		"vm-get-info" },	\
		{ KVMI_VM_CONTROL_EVENTS,	"vm-control-events" },	\
		{ KVMI_VM_READ_PHYSICAL,	"vm-read-physical" },	\
		{ KVMI_VM_WRITE_PHYSICAL,	"vm-write-physical" },	\
		{ KVMI_VM_PAUSE_VCPU,		"vm-pause-vcpu" },	\
		{ KVMI_VM_CONTROL_CLEANUP,	"vm-control-cleanup" },	\
		{ KVMI_VM_GET_MAX_GFN,		"vm-get-max-gfn" },	\
		{ KVMI_VM_SET_PAGE_ACCESS,	"vm-set-page-access" },	\
		{ KVMI_VCPU_GET_INFO,		"vcpu-get-info" },	\
		{ KVMI_VCPU_CONTROL_EVENTS,	"vcpu-control-events" }, \
		{ KVMI_VCPU_GET_REGISTERS,	"vcpu-get-registers" },	\
		{ KVMI_VCPU_SET_REGISTERS,	"vcpu-set-registers" },	\
		{ KVMI_VCPU_GET_CPUID,		"vcpu-get-cpuid" },	\
		{ KVMI_VCPU_CONTROL_CR,		"vcpu-control-cr" },	\
		{ KVMI_VCPU_INJECT_EXCEPTION,	"vcpu-inject-exception" }, \
		{ KVMI_VCPU_GET_XCR,		"vcpu-get-xcr" },	\
		{ KVMI_VCPU_GET_XSAVE,		"vcpu-get-xsave" },	\
		{ KVMI_VCPU_SET_XSAVE,		"vcpu-set-xsave" },	\
		{ KVMI_VCPU_GET_MTRR_TYPE,	"vcpu-get-mtrr-type" },	\
		{ KVMI_VCPU_CONTROL_MSR,	"vcpu-control-msr" },	\
		{ KVMI_VCPU_CONTROL_SINGLESTEP,	"vcpu-control-singlestep" }, \
		{ KVMI_VCPU_TRANSLATE_GVA,	"vcpu-translate-gva" })

#define kvmi_event_name(id)						\
	__print_symbolic(id,						\
		{ KVMI_VCPU_EVENT_PAUSE,	"pause" },		\
		{ KVMI_VCPU_EVENT_HYPERCALL,	"hypercall" },		\
		{ KVMI_VCPU_EVENT_BREAKPOINT,	"breakpoint" },		\
		{ KVMI_VCPU_EVENT_CR,		"cr" },			\
		{ KVMI_VCPU_EVENT_TRAP,		"trap" },		\
		{ KVMI_VCPU_EVENT_XSETBV,	"xsetbv" },		\
		{ KVMI_VCPU_EVENT_DESCRIPTOR,	"descriptor" },		\
		{ KVMI_VCPU_EVENT_MSR,		"msr" },		\
		{ KVMI_VCPU_EVENT_PF,		"pf" },			\
		{ KVMI_VCPU_EVENT_SINGLESTEP,	"singlestep" })

#define kvmi_action_name(id)						\
	__print_symbolic(id,						\
		{ KVMI_EVENT_ACTION_CONTINUE,	"continue" },		\
		{ KVMI_EVENT_ACTION_RETRY,	"retry" },		\
		{ KVMI_EVENT_ACTION_CRASH,	"crash" })

TRACE_EVENT(kvmi_hook,
	    TP_PROTO(struct kvm *kvm, const u8 *uuid, bool attach),
	    TP_ARGS(kvm, uuid, attach),

	    TP_STRUCT__entry(__field(pid_t, pid)
			     __array(u8, uuid, 16)
			     __field(bool, attach)
	    ),

	    TP_fast_assign(__entry->pid = kvm->userspace_pid;
			   memcpy(__entry->uuid, uuid, 16);
			   __entry->attach = attach;
	    ),

	    TP_printk("vm %d uuid %pU by %s", __entry->pid, __entry->uuid,
		      __entry->attach ? "attach" : "hook")
);

TRACE_EVENT(kvmi_unhook,
	    TP_PROTO(struct kvm *kvm, const u8 *uuid),
	    TP_ARGS(kvm, uuid),

	    TP_STRUCT__entry(__field(pid_t, pid)
			     __array(u8, uuid, 16)
	    ),

	    TP_fast_assign(__entry->pid = kvm->userspace_pid;
			   memcpy(__entry->uuid, uuid, 16);
	    ),

	    TP_printk("vm %d uuid %pU", __entry->pid, __entry->uuid)
);

TRACE_EVENT(kvmi_command,
	    TP_PROTO(struct kvm *kvm, u16 id, u32 seq, u16 size),
	    TP_ARGS(kvm, id, seq, size),

	    TP_STRUCT__entry(__field(pid_t, pid)
			     __field(u16, id)
			     __field(u16, size)
			     __field(u32, seq)
	    ),

	    TP_fast_assign(__entry->pid = kvm->userspace_pid;
			   __entry->id = id;
			   __entry->size = size;
			   __entry->seq = seq;
	    ),

	    TP_printk("vm %d id %s seq %u size %u", __entry->pid,
		      kvmi_message_name(__entry->id), __entry->seq, __entry->size)
);

TRACE_EVENT(kvmi_reply,
	    TP_PROTO(struct kvm *kvm, u16 id, u32 seq, int err),
	    TP_ARGS(kvm, id, seq, err),

	    TP_STRUCT__entry(__field(pid_t, pid)
			     __field(u16, id)
			     __field(u32, seq)
			     __field(int, err)
	    ),

	    TP_fast_assign(__entry->pid = kvm->userspace_pid;
			   __entry->id = id;
			   __entry->seq = seq;
			   __entry->err = err;
	    ),

	    TP_printk("vm %d id %s seq %u err %d", __entry->pid,
		      kvmi_message_name(__entry->id), __entry->seq, __entry->err)
);

TRACE_EVENT(kvmi_event,
	    TP_PROTO(struct kvm_vcpu *vcpu, u16 event, u32 seq, int err),
	    TP_ARGS(vcpu, event, seq, err),

	    TP_STRUCT__entry(__field(int, vcpu)
			     __field(u16, event)
			     __field(u32, seq)
			     __field(int, err)
	    ),

	    TP_fast_assign(__entry->vcpu = vcpu->vcpu_idx;
			   __entry->event = event;
			   __entry->seq = seq;
			   __entry->err = err;
	    ),

	    TP_printk("vcpu %d event %s seq %u err %d", __entry->vcpu,
		      kvmi_event_name(__entry->event), __entry->seq, __entry->err)
);

TRACE_EVENT(kvmi_action,
	    TP_PROTO(struct kvm_vcpu *vcpu, u16 event, u32 seq, u8 action),
	    TP_ARGS(vcpu, event, seq, action),

	    TP_STRUCT__entry(__field(int, vcpu)
			     __field(u16, event)
			     __field(u32, seq)
			     __field(u8, action)
	    ),

	    TP_fast_assign(__entry->vcpu = vcpu->vcpu_idx;
			   __entry->event = event;
			   __entry->seq = seq;
			   __entry->action = action;
	    ),

	    TP_printk("vcpu %d event %s seq %u action %s", __entry->vcpu,
		      kvmi_event_name(__entry->event), __entry->seq,
		      kvmi_action_name(__entry->action))
);

TRACE_EVENT(kvmi_deadline,
	    TP_PROTO(struct kvm_vcpu *vcpu, u16 event, u32 seq, unsigned int missed),
	    TP_ARGS(vcpu, event, seq, missed),

	    TP_STRUCT__entry(__field(int, vcpu)
			     __field(u16, event)
			     __field(u32, seq)
			     __field(unsigned int, missed)
	    ),

	    TP_fast_assign(__entry->vcpu = vcpu->vcpu_idx;
			   __entry->event = event;
			   __entry->seq = seq;
			   __entry->missed = missed;
	    ),

	    TP_printk("vcpu %d event %s seq %u missed %u", __entry->vcpu,
		      kvmi_event_name(__entry->event), __entry->seq, __entry->missed)
);

#endif /* _TRACE_KVMI_H */

#include <trace/define_trace.h>
