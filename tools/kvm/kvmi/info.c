// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi info
 */
#include <errno.h>
#include <string.h>

#include "tool.h"

struct info {
	struct kvmi_get_version_reply version;
	unsigned int vcpus;
	__u64 max_gfn;
	bool has_vcpu;		/* what follows is known */
	__u64 tsc_speed;
	char vendor[13];
	char model[49];
};

static void get_model(struct kvmi_conn *conn, struct info *info)
{
	struct kvmi_vcpu_get_cpuid_reply rpl;
	unsigned int i;

	if (!kvmi_get_cpuid(conn, 0, 0, 0, &rpl)) {
		memcpy(info->vendor, &rpl.ebx, 4);
		memcpy(info->vendor + 4, &rpl.edx, 4);
		memcpy(info->vendor + 8, &rpl.ecx, 4);
	}
	for (i = 0; i < 3; i++)
		if (!kvmi_get_cpuid(conn, 0, 0x80000002 + i, 0, &rpl))
			memcpy(info->model + 16 * i, &rpl, 16);
}

/* The first vCPU stands for all: they are alike. */
static int get_info(struct tool *tool, struct info *info)
{
	int r = kvmi_get_version(tool->conn, &info->version);

	if (!r)
		r = kvmi_get_vcpu_count(tool->conn, &info->vcpus);
	if (!r)
		r = kvmi_get_max_gfn(tool->conn, &info->max_gfn);
	if (r)
		return fail_conn(tool);

	if (!info->vcpus)
		return 0;

	r = kvmi_get_tsc_speed(tool->conn, 0, &info->tsc_speed);
	if (r == -ECONNRESET)
		return fail_conn(tool);
	if (r) {
		note("%s", kvmi_strerror(tool->conn));
	} else {
		info->has_vcpu = true;
		get_model(tool->conn, info);
	}

	return 0;
}

/* Lists the names of what the kernel has, or what it has not. */
static void list_names(struct tool *tool, const char *title, bool has,
		       int (*check)(struct kvmi_conn *conn, __u16 id),
		       const char *(*name)(unsigned int id), unsigned int first)
{
	unsigned int id, column = 0;

	if (tool->json)
		json_array(&tool->out, title);
	for (id = first; id < KVMI_NEXT_VCPU_MESSAGE; id++) {
		if (!name(id) || !check(tool->conn, id) != has)
			continue;
		if (tool->json) {
			json_string(&tool->out, NULL, name(id));
			continue;
		}
		if (!column)
			column = printf("%-14s", title);
		else if (column + strlen(name(id)) > 75)
			column = printf("\n%-14s", "") - 1;
		column += printf(" %s", name(id));
	}
	if (tool->json)
		json_end(&tool->out);
	else if (column)
		putchar('\n');
}

static void print_json(struct tool *tool, const struct info *info)
{
	struct json *out = &tool->out;

	json_object(out, NULL);
	if (tool->vm.pid) {
		json_number(out, "pid", tool->vm.pid);
		json_string(out, "vmm", tool->vm.vmm);
		json_string(out, "name", tool->vm.name);
	}
	json_number(out, "version", info->version.version);
	json_number(out, "max_message", info->version.max_msg_size);
	json_object(out, "features");
	json_bool(out, "singlestep", info->version.features.singlestep);
	json_end(out);
	json_number(out, "vcpus", info->vcpus);
	json_hex(out, "memory_end", info->max_gfn * KVMI_GUEST_PAGE);
	if (info->has_vcpu) {
		json_number(out, "tsc_hz", info->tsc_speed);
		json_string(out, "cpu_vendor", info->vendor);
		json_string(out, "cpu_model", info->model);
	}
	list_names(tool, "commands", true, kvmi_check_command, kvmi_message_name, KVMI_GET_VERSION);
	list_names(tool, "events", true, kvmi_check_event, kvmi_event_name, 0);
	json_end(out);
}

static void print_text(struct tool *tool, const struct info *info)
{
	if (tool->vm.pid) {
		printf("%-14s %s, process %d\n", "VMM", tool->vm.vmm, tool->vm.pid);
		if (*tool->vm.name)
			printf("%-14s %s\n", "name", tool->vm.name);
	}
	printf("%-14s version %u, messages up to %u bytes\n", "protocol", info->version.version,
	       info->version.max_msg_size);
	printf("%-14s %u\n", "vCPUs", info->vcpus);
	printf("%-14s below 0x%llx\n", "memory", info->max_gfn * KVMI_GUEST_PAGE);
	if (info->has_vcpu) {
		if (info->tsc_speed)
			printf("%-14s %.3f MHz\n", "TSC", info->tsc_speed / 1e6);
		else
			printf("%-14s cannot be scaled\n", "TSC");
		printf("%-14s %s, %s\n", "CPU", info->vendor, info->model);
	}
	printf("%-14s %s\n", "single step", info->version.features.singlestep ? "yes" : "no");
	list_names(tool, "commands", true, kvmi_check_command, kvmi_message_name, KVMI_GET_VERSION);
	list_names(tool, "without", false, kvmi_check_command, kvmi_message_name, KVMI_GET_VERSION);
	list_names(tool, "events", true, kvmi_check_event, kvmi_event_name, 0);
	list_names(tool, "without", false, kvmi_check_event, kvmi_event_name, 0);
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct info info = { 0 };
	int r;

	(void)argc;
	(void)argv;

	r = connect_vm(tool);
	if (!r)
		r = get_info(tool, &info);
	if (r)
		return r;

	if (tool->json)
		print_json(tool, &info);
	else
		print_text(tool, &info);

	return STATUS_OK;
}

const struct command command_info = {
	.name = "info",
	.operands = "",
	.vm = true,
	.options = "",
	.brief = "what a VM is, and what can be done to it",
	.help =
	"What KVM tells about the VM, and which commands and events this kernel has.\n"
	"The VM goes on meanwhile.\n",
	.run = run,
};
