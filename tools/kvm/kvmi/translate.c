// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi translate
 */
#include "tool.h"

static void print_json(struct json *out, unsigned int vcpu, __u64 gva, __u64 gpa)
{
	json_object(out, NULL);
	json_number(out, "vcpu", vcpu);
	json_hex(out, "gva", gva);
	if (gpa == KVMI_UNMAPPED)
		json_null(out, "gpa");
	else
		json_hex(out, "gpa", gpa);
	json_end(out);
}

static int run(struct tool *tool, int argc, char **argv)
{
	unsigned int vcpus, vcpu = tool->vcpu < 0 ? 0 : tool->vcpu;
	__u64 gva, gpa;
	int r;

	(void)argc;

	if (!parse_number(argv[0], &gva))
		return fail(tool, STATUS_USAGE, "%s is no address", argv[0]);

	r = connect_vm(tool);
	if (!r)
		r = check_vcpu(tool, &vcpus);
	if (r)
		return r;
	if (kvmi_translate_gva(tool->conn, vcpu, gva, &gpa))
		return fail_conn(tool);

	if (tool->json)
		print_json(&tool->out, vcpu, gva, gpa);
	else if (gpa == KVMI_UNMAPPED)
		note("vCPU %u does not map 0x%llx", vcpu, gva);
	else
		printf("0x%llx\n", gpa);

	return gpa == KVMI_UNMAPPED ? STATUS_NOTHING : STATUS_OK;
}

const struct command command_translate = {
	.name = "translate",
	.operands = "GVA",
	.min = 1,
	.max = 1,
	.vm = true,
	.options = "c",
	.brief = "tell where in guest memory a virtual address is",
	.help =
	"Prints the guest physical address, as 'kvmi dump' takes it. The page tables are\n"
	"those that the vCPU (the first one, or --vcpu) uses at this moment: addresses\n"
	"of user space are those of the process that it happens to run. The exit code\n"
	"is 1 if GVA is not mapped.\n",
	.run = run,
};
