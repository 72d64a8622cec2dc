// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi regs
 */
#include <errno.h>
#include <string.h>

#include "tool.h"

struct flag {
	unsigned int bit;
	const char *name;
};

static const struct flag rflags[] = {
	{ 0, "CF" }, { 2, "PF" }, { 4, "AF" }, { 6, "ZF" }, { 7, "SF" }, { 8, "TF" },
	{ 9, "IF" }, { 10, "DF" }, { 11, "OF" }, { 14, "NT" }, { 16, "RF" }, { 17, "VM" },
	{ 18, "AC" }, { 19, "VIF" }, { 20, "VIP" }, { 21, "ID" }, { }
};

static const struct flag cr0_flags[] = {
	{ 0, "PE" }, { 1, "MP" }, { 2, "EM" }, { 3, "TS" }, { 4, "ET" }, { 5, "NE" },
	{ 16, "WP" }, { 18, "AM" }, { 29, "NW" }, { 30, "CD" }, { 31, "PG" }, { }
};

static const struct flag cr4_flags[] = {
	{ 0, "VME" }, { 1, "PVI" }, { 2, "TSD" }, { 3, "DE" }, { 4, "PSE" }, { 5, "PAE" },
	{ 6, "MCE" }, { 7, "PGE" }, { 8, "PCE" }, { 9, "OSFXSR" }, { 10, "OSXMMEXCPT" },
	{ 11, "UMIP" }, { 12, "LA57" }, { 13, "VMXE" }, { 14, "SMXE" }, { 16, "FSGSBASE" },
	{ 17, "PCIDE" }, { 18, "OSXSAVE" }, { 20, "SMEP" }, { 21, "SMAP" }, { 22, "PKE" },
	{ 23, "CET" }, { 24, "PKS" }, { }
};

static const struct flag efer_flags[] = {
	{ 0, "SCE" }, { 8, "LME" }, { 10, "LMA" }, { 11, "NX" }, { 12, "SVME" },
	{ 14, "FFXSR" }, { }
};

#define EFER_LMA	0x400

static const char * const msr_names[] = {
	"sysenter_cs", "sysenter_esp", "sysenter_eip", "pat", "star", "lstar", "cstar", "sfmask",
	"kernel_gs_base",
};

struct vcpu {
	unsigned int index;
	struct kvmi_vcpu_event_arch state;
	struct kvm_msr_entry msrs[ARRAY_SIZE(msr_names)];
	bool has_msr[ARRAY_SIZE(msr_names)];
};

static const char *mode_name(const struct kvmi_vcpu_event_arch *state)
{
	if (!(state->sregs.cr0 & 1))
		return "real mode";
	if (state->regs.rflags & (1 << 17))
		return "virtual 8086 mode";
	if (state->mode == 8)
		return "64-bit mode";
	if (state->sregs.efer & EFER_LMA)
		return state->mode == 4 ? "32-bit compatibility mode" : "16-bit compatibility mode";
	return state->mode == 4 ? "32-bit protected mode" : "16-bit protected mode";
}

static const char *paging_name(const struct kvm_sregs *sregs)
{
	if (!(sregs->cr0 & (1U << 31)))
		return "no paging";
	if (sregs->efer & EFER_LMA)
		return sregs->cr4 & (1 << 12) ? "5-level paging" : "4-level paging";
	return sregs->cr4 & (1 << 5) ? "PAE paging" : "32-bit paging";
}

static void print_flags(const char *name, __u64 value, const struct flag *flag)
{
	printf("%-6s %016llx  [", name, value);
	for (; flag->name; flag++)
		if (value >> flag->bit & 1)
			printf(" %s", flag->name);
	printf(" ]\n");
}

static void print_segment(const char *name, const struct kvm_segment *seg)
{
	printf("%-4s %04x  base %016llx  limit %08x  type %x%s dpl %u%s%s%s%s%s\n", name,
	       seg->selector, seg->base, seg->limit, seg->type, seg->s ? "" : " system", seg->dpl,
	       seg->present ? " P" : "", seg->l ? " L" : "", seg->db ? " D/B" : "",
	       seg->g ? " G" : "", seg->unusable ? " unusable" : "");
}

static void print_text(const struct vcpu *vcpu)
{
	const struct kvmi_vcpu_event_arch *state = &vcpu->state;
	const struct kvm_sregs *sregs = &state->sregs;
	size_t i;

	printf("vCPU %u: %s, privilege level %u, %s\n", vcpu->index, mode_name(state),
	       privilege_level(state), paging_name(sregs));
	for (i = 0; i < 16; i++)
		printf("%-6s %016llx%s", register_names[i].name,
		       register_value(&state->regs, &register_names[i]), i % 4 == 3 ? "\n" : "  ");
	printf("%-6s %016llx\n", "rip", state->regs.rip);
	print_flags("rflags", state->regs.rflags, rflags);
	print_flags("cr0", sregs->cr0, cr0_flags);
	printf("%-6s %016llx\n", "cr2", sregs->cr2);
	printf("%-6s %016llx\n", "cr3", sregs->cr3);
	print_flags("cr4", sregs->cr4, cr4_flags);
	printf("%-6s %016llx\n", "cr8", sregs->cr8);
	print_flags("efer", sregs->efer, efer_flags);
	print_segment("cs", &sregs->cs);
	print_segment("ss", &sregs->ss);
	print_segment("ds", &sregs->ds);
	print_segment("es", &sregs->es);
	print_segment("fs", &sregs->fs);
	print_segment("gs", &sregs->gs);
	print_segment("tr", &sregs->tr);
	print_segment("ldt", &sregs->ldt);
	printf("gdt        base %016llx  limit %08x\n", sregs->gdt.base, sregs->gdt.limit);
	printf("idt        base %016llx  limit %08x\n", sregs->idt.base, sregs->idt.limit);
	printf("%-16s %016llx\n", "apic_base", sregs->apic_base);
	for (i = 0; i < ARRAY_SIZE(msr_names); i++)
		if (vcpu->has_msr[i])
			printf("%-16s %016llx\n", msr_names[i], (__u64)vcpu->msrs[i].data);
}

static void json_segment(struct json *out, const char *name, const struct kvm_segment *seg)
{
	json_object(out, name);
	json_hex(out, "selector", seg->selector);
	json_hex(out, "base", seg->base);
	json_hex(out, "limit", seg->limit);
	json_number(out, "type", seg->type);
	json_bool(out, "system", !seg->s);
	json_number(out, "dpl", seg->dpl);
	json_bool(out, "present", seg->present);
	json_bool(out, "long", seg->l);
	json_bool(out, "db", seg->db);
	json_bool(out, "granularity", seg->g);
	json_bool(out, "unusable", seg->unusable);
	json_end(out);
}

static void json_table(struct json *out, const char *name, const struct kvm_dtable *table)
{
	json_object(out, name);
	json_hex(out, "base", table->base);
	json_hex(out, "limit", table->limit);
	json_end(out);
}

static void print_json(struct json *out, const struct vcpu *vcpu)
{
	const struct kvmi_vcpu_event_arch *state = &vcpu->state;
	const struct kvm_sregs *sregs = &state->sregs;
	size_t i;

	json_object(out, NULL);
	json_number(out, "vcpu", vcpu->index);
	json_string(out, "mode", mode_name(state));
	json_number(out, "operand_size", state->mode);
	json_number(out, "cpl", privilege_level(state));
	json_string(out, "paging", paging_name(sregs));
	for (i = 0; i < ARRAY_SIZE(register_names); i++)
		json_hex(out, register_names[i].name,
			 register_value(&state->regs, &register_names[i]));
	json_hex(out, "cr0", sregs->cr0);
	json_hex(out, "cr2", sregs->cr2);
	json_hex(out, "cr3", sregs->cr3);
	json_hex(out, "cr4", sregs->cr4);
	json_hex(out, "cr8", sregs->cr8);
	json_hex(out, "efer", sregs->efer);
	json_hex(out, "apic_base", sregs->apic_base);
	json_segment(out, "cs", &sregs->cs);
	json_segment(out, "ss", &sregs->ss);
	json_segment(out, "ds", &sregs->ds);
	json_segment(out, "es", &sregs->es);
	json_segment(out, "fs", &sregs->fs);
	json_segment(out, "gs", &sregs->gs);
	json_segment(out, "tr", &sregs->tr);
	json_segment(out, "ldt", &sregs->ldt);
	json_table(out, "gdt", &sregs->gdt);
	json_table(out, "idt", &sregs->idt);
	json_object(out, "msrs");
	for (i = 0; i < ARRAY_SIZE(msr_names); i++)
		if (vcpu->has_msr[i])
			json_hex(out, msr_names[i], vcpu->msrs[i].data);
	json_end(out);
	json_end(out);
}

/* All MSRs in one go; one by one if this processor lacks some. */
static int get_vcpu(struct kvmi_conn *conn, struct vcpu *vcpu)
{
	size_t i, nr = ARRAY_SIZE(msr_names);
	int r;

	for (i = 0; i < nr; i++)
		kvmi_msr_index(msr_names[i], &vcpu->msrs[i].index);

	r = kvmi_get_registers(conn, vcpu->index, &vcpu->state, vcpu->msrs, nr);
	if (r != -EINVAL) {
		memset(vcpu->has_msr, 1, sizeof(vcpu->has_msr));
		return r;
	}

	r = kvmi_get_registers(conn, vcpu->index, &vcpu->state, NULL, 0);
	for (i = 0; i < nr && !r; i++)
		vcpu->has_msr[i] = !kvmi_get_registers(conn, vcpu->index, &vcpu->state,
						       &vcpu->msrs[i], 1);
	return r;
}

static void no_registers(struct tool *tool, unsigned int vcpu, const char *why)
{
	if (tool->json) {
		json_object(&tool->out, NULL);
		json_number(&tool->out, "vcpu", vcpu);
		json_string(&tool->out, "error", why);
		json_end(&tool->out);
	} else {
		printf("vCPU %u: %s\n", vcpu, why);
	}
}

static int show_vcpu(struct tool *tool, unsigned int index)
{
	struct vcpu vcpu = { .index = index };
	int r;

	if (!tool->live && !kvmi_is_paused(tool->conn, index)) {
		no_registers(tool, index, "does not run, its VMM has stopped it");
		return STATUS_TIMEOUT;
	}

	r = get_vcpu(tool->conn, &vcpu);
	if (r == -EAGAIN || r == -ETIMEDOUT) {
		no_registers(tool, index, kvmi_strerror(tool->conn));
		return r == -EAGAIN ? STATUS_OK : STATUS_TIMEOUT;
	}
	if (r)
		return fail_conn(tool);

	if (tool->json)
		print_json(&tool->out, &vcpu);
	else
		print_text(&vcpu);
	return STATUS_OK;
}

static int run(struct tool *tool, int argc, char **argv)
{
	unsigned int i, vcpus = 0;
	int r, status = STATUS_OK;

	(void)argc;
	(void)argv;

	r = connect_vm(tool);
	if (!r)
		r = check_vcpu(tool, &vcpus);
	if (r)
		return r;

	if (!tool->live) {
		r = pause_vm(tool, tool->vcpu);
		if (r)
			return r;
	}

	if (tool->json)
		json_array(&tool->out, NULL);
	for (i = 0; i < vcpus && status != STATUS_FAILED && status != STATUS_NO_VM; i++) {
		if (tool->vcpu >= 0 && i != (unsigned int)tool->vcpu)
			continue;
		if (i && tool->vcpu < 0 && !tool->json)
			putchar('\n');
		r = show_vcpu(tool, i);
		if (r)
			status = r;
	}
	if (tool->json && tool->out.depth)
		json_end(&tool->out);

	kvmi_resume(tool->conn);
	return status;
}

const struct command command_regs = {
	.name = "regs",
	.operands = "",
	.vm = true,
	.options = "cl",
	.brief = "show the registers of vCPUs",
	.help =
	"The vCPUs are paused while their registers are read, so that what is shown of\n"
	"all of them belongs together; with --live each is read while it goes on.\n",
	.run = run,
};
