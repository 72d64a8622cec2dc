// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: names of messages and events.
 */
#include "internal.h"

static const char * const messages[] = {
	[KVMI_VM_EVENT] = "vm-event",
	[KVMI_VCPU_EVENT] = "vcpu-event",
	[KVMI_GET_VERSION] = "get-version",
	[KVMI_VM_CHECK_COMMAND] = "check-command",
	[KVMI_VM_CHECK_EVENT] = "check-event",
	[KVMI_VM_GET_INFO] = "get-info",
	[KVMI_VM_CONTROL_EVENTS] = "control-events",
	[KVMI_VM_READ_PHYSICAL] = "read-physical",
	[KVMI_VM_WRITE_PHYSICAL] = "write-physical",
	[KVMI_VM_PAUSE_VCPU] = "pause-vcpu",
	[KVMI_VM_CONTROL_CLEANUP] = "control-cleanup",
	[KVMI_VM_GET_MAX_GFN] = "get-max-gfn",
	[KVMI_VM_SET_PAGE_ACCESS] = "set-page-access",
	[KVMI_VCPU_GET_INFO] = "vcpu-get-info",
	[KVMI_VCPU_CONTROL_EVENTS] = "vcpu-control-events",
	[KVMI_VCPU_GET_REGISTERS] = "get-registers",
	[KVMI_VCPU_SET_REGISTERS] = "set-registers",
	[KVMI_VCPU_GET_CPUID] = "get-cpuid",
	[KVMI_VCPU_CONTROL_CR] = "control-cr",
	[KVMI_VCPU_INJECT_EXCEPTION] = "inject-exception",
	[KVMI_VCPU_GET_XCR] = "get-xcr",
	[KVMI_VCPU_GET_XSAVE] = "get-xsave",
	[KVMI_VCPU_SET_XSAVE] = "set-xsave",
	[KVMI_VCPU_GET_MTRR_TYPE] = "get-mtrr-type",
	[KVMI_VCPU_CONTROL_MSR] = "control-msr",
	[KVMI_VCPU_CONTROL_SINGLESTEP] = "control-singlestep",
	[KVMI_VCPU_TRANSLATE_GVA] = "translate-gva",
};

static const char * const events[] = {
	[KVMI_VM_EVENT_UNHOOK] = "unhook",
	[KVMI_VCPU_EVENT_PAUSE] = "pause",
	[KVMI_VCPU_EVENT_HYPERCALL] = "hypercall",
	[KVMI_VCPU_EVENT_BREAKPOINT] = "breakpoint",
	[KVMI_VCPU_EVENT_CR] = "cr",
	[KVMI_VCPU_EVENT_TRAP] = "trap",
	[KVMI_VCPU_EVENT_XSETBV] = "xsetbv",
	[KVMI_VCPU_EVENT_DESCRIPTOR] = "descriptor",
	[KVMI_VCPU_EVENT_MSR] = "msr",
	[KVMI_VCPU_EVENT_PF] = "pf",
	[KVMI_VCPU_EVENT_SINGLESTEP] = "singlestep",
};

/**
 * kvmi_message_name - name a message
 * @id: KVMI_*
 *
 * Return: its name, NULL if there is no such message
 */
const char *kvmi_message_name(unsigned int id)
{
	return id < ARRAY_SIZE(messages) ? messages[id] : NULL;
}

/**
 * kvmi_event_name - name an event
 * @id: KVMI_VM_EVENT_* or KVMI_VCPU_EVENT_*
 *
 * Return: its name, NULL if there is no such event
 */
const char *kvmi_event_name(unsigned int id)
{
	return id < ARRAY_SIZE(events) ? events[id] : NULL;
}
