// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: events, for people and for machines.
 */
#include "tool.h"

static void text_breakpoint(const struct kvmi_event *event)
{
	if (event->breakpoint.gpa == KVMI_UNMAPPED)
		printf("  gpa unmapped");
	else
		printf("  gpa %llx", event->breakpoint.gpa);
	printf("  length %u", event->breakpoint.insn_len);
}

static void json_breakpoint(struct json *out, const struct kvmi_event *event)
{
	if (event->breakpoint.gpa == KVMI_UNMAPPED)
		json_null(out, "gpa");
	else
		json_hex(out, "gpa", event->breakpoint.gpa);
	json_number(out, "length", event->breakpoint.insn_len);
}

static void text_hypercall(const struct kvmi_event *event)
{
	printf("  rbx %llx  rdx %llx", event->arch.regs.rbx, event->arch.regs.rdx);
}

static void text_change(const char *name, __u64 old, __u64 new)
{
	printf("  %s %016llx -> %016llx", name, old, new);
}

static void json_change(struct json *out, __u64 old, __u64 new)
{
	json_hex(out, "old", old);
	json_hex(out, "new", new);
}

static const char *cr_name(const struct kvmi_event *event)
{
	return kvmi_cr_name(event->cr.cr) ?: "cr?";
}

static void text_cr(const struct kvmi_event *event)
{
	text_change(cr_name(event), event->cr.old_value, event->cr.new_value);
}

static void json_cr(struct json *out, const struct kvmi_event *event)
{
	json_string(out, "register", cr_name(event));
	json_change(out, event->cr.old_value, event->cr.new_value);
}

static void text_msr(const struct kvmi_event *event)
{
	char buf[MSR_NAME];

	text_change(msr_text(event->msr.msr, buf), event->msr.old_value, event->msr.new_value);
}

static void json_msr(struct json *out, const struct kvmi_event *event)
{
	const char *name = kvmi_msr_name(event->msr.msr);

	json_hex(out, "msr", event->msr.msr);
	if (name)
		json_string(out, "register", name);
	else
		json_null(out, "register");
	json_change(out, event->msr.old_value, event->msr.new_value);
}

static void text_xsetbv(const struct kvmi_event *event)
{
	printf("  xcr%u %llx -> %llx", event->xsetbv.xcr, event->xsetbv.old_value,
	       event->xsetbv.new_value);
}

static void json_xsetbv(struct json *out, const struct kvmi_event *event)
{
	json_number(out, "xcr", event->xsetbv.xcr);
	json_change(out, event->xsetbv.old_value, event->xsetbv.new_value);
}

static const char *descriptor_name(const struct kvmi_event *event)
{
	return kvmi_descriptor_name(event->descriptor.descriptor) ?: "unknown";
}

static const char *descriptor_access(const struct kvmi_event *event)
{
	return event->descriptor.write ? "load" : "store";
}

static void text_descriptor(const struct kvmi_event *event)
{
	printf("  %s %s", descriptor_access(event), descriptor_name(event));
}

static void json_descriptor(struct json *out, const struct kvmi_event *event)
{
	json_string(out, "register", descriptor_name(event));
	json_string(out, "access", descriptor_access(event));
}

static const char *exception_name(const struct kvmi_event *event)
{
	return kvmi_exception_name(event->trap.nr) ?: "unknown";
}

static void text_trap(const struct kvmi_event *event)
{
	printf("  vector %u %s  error %x  address %llx", event->trap.nr, exception_name(event),
	       event->trap.error_code, event->trap.address);
}

static void json_trap(struct json *out, const struct kvmi_event *event)
{
	json_number(out, "vector", event->trap.nr);
	json_string(out, "exception", exception_name(event));
	json_hex(out, "error_code", event->trap.error_code);
	json_hex(out, "address", event->trap.address);
}

/* What was wanted: "w", "rx" */
static const char *access_text(const struct kvmi_event *event, char buf[4])
{
	char *c = buf;

	if (event->pf.access & KVMI_PAGE_ACCESS_R)
		*c++ = 'r';
	if (event->pf.access & KVMI_PAGE_ACCESS_W)
		*c++ = 'w';
	if (event->pf.access & KVMI_PAGE_ACCESS_X)
		*c++ = 'x';
	*c = '\0';
	return buf;
}

static void text_pf(const struct kvmi_event *event)
{
	char buf[4];

	if (event->pf.gva == KVMI_UNMAPPED)
		printf("  gva unknown");
	else
		printf("  gva %llx", event->pf.gva);
	printf("  gpa %llx  access %s", event->pf.gpa, access_text(event, buf));
}

static void json_pf(struct json *out, const struct kvmi_event *event)
{
	char buf[4];

	if (event->pf.gva == KVMI_UNMAPPED)
		json_null(out, "gva");
	else
		json_hex(out, "gva", event->pf.gva);
	json_hex(out, "gpa", event->pf.gpa);
	json_string(out, "access", access_text(event, buf));
}

static void text_singlestep(const struct kvmi_event *event)
{
	if (event->singlestep.failed)
		printf("  failed");
}

static void json_singlestep(struct json *out, const struct kvmi_event *event)
{
	json_bool(out, "failed", event->singlestep.failed);
}

/* What an event has besides the state of the vCPU; either may be NULL. */
static const struct {
	void (*text)(const struct kvmi_event *event);
	void (*json)(struct json *out, const struct kvmi_event *event);
} payloads[KVMI_NEXT_VCPU_EVENT] = {
	[KVMI_VCPU_EVENT_HYPERCALL] = { text_hypercall, NULL },
	[KVMI_VCPU_EVENT_BREAKPOINT] = { text_breakpoint, json_breakpoint },
	[KVMI_VCPU_EVENT_CR] = { text_cr, json_cr },
	[KVMI_VCPU_EVENT_TRAP] = { text_trap, json_trap },
	[KVMI_VCPU_EVENT_XSETBV] = { text_xsetbv, json_xsetbv },
	[KVMI_VCPU_EVENT_DESCRIPTOR] = { text_descriptor, json_descriptor },
	[KVMI_VCPU_EVENT_MSR] = { text_msr, json_msr },
	[KVMI_VCPU_EVENT_PF] = { text_pf, json_pf },
	[KVMI_VCPU_EVENT_SINGLESTEP] = { text_singlestep, json_singlestep },
};

static void print_text(const struct kvmi_event *event, double time,
		       const struct event_note *notes, const char *verdict)
{
	const struct kvmi_vcpu_event_arch *arch = &event->arch;
	const char *name = kvmi_event_name(event->id) ?: "unknown";

	if (event->id & 1)
		printf("%11.6f  %-10s  vcpu %u  rip %016llx  cr3 %016llx  cpl %u", time, name,
		       event->vcpu, arch->regs.rip, arch->sregs.cr3, privilege_level(arch));
	else
		printf("%11.6f  %s", time, name);
	if (event->id < ARRAY_SIZE(payloads) && payloads[event->id].text)
		payloads[event->id].text(event);
	for (; notes && notes->key; notes++)
		printf("  %s %s", notes->key, notes->value);
	if (verdict)
		printf("  %s", verdict);
	putchar('\n');
	fflush(stdout);
}

static void print_json(struct json *out, const struct kvmi_event *event, double time,
		       const struct event_note *notes, const char *verdict)
{
	const struct kvmi_vcpu_event_arch *arch = &event->arch;
	size_t i;

	json_object(out, NULL);
	json_double(out, "time", time);
	json_string(out, "event", kvmi_event_name(event->id) ?: "unknown");
	json_number(out, "seq", event->seq);
	if (event->id & 1) {
		json_number(out, "vcpu", event->vcpu);
		json_number(out, "operand_size", arch->mode);
		json_number(out, "cpl", privilege_level(arch));
		json_hex(out, "cr3", arch->sregs.cr3);
		json_object(out, "regs");
		for (i = 0; i < ARRAY_SIZE(register_names); i++)
			json_hex(out, register_names[i].name,
				 register_value(&arch->regs, &register_names[i]));
		json_end(out);
	}
	if (event->id < ARRAY_SIZE(payloads) && payloads[event->id].json)
		payloads[event->id].json(out, event);
	for (; notes && notes->key; notes++)
		json_string(out, notes->key, notes->value);
	if (verdict)
		json_string(out, "verdict", verdict);
	json_end(out);
}

/*
 * A line, after @time seconds; @notes: what else there is to say, ends with one
 * without key; @verdict: what became of it. Both may be NULL.
 */
void print_event(struct tool *tool, const struct kvmi_event *event, double time,
		 const struct event_note *notes, const char *verdict)
{
	if (tool->json)
		print_json(&tool->out, event, time, notes, verdict);
	else
		print_text(event, time, notes, verdict);
}
