// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi list
 */
#include <errno.h>
#include <string.h>

#include "tool.h"

static const char *which(const struct kvmi_vm *vm, char *buf, size_t size)
{
	if (!vm->pid)
		return kvmi_uuid_text(vm->uuid, buf);
	if (vm->several)
		snprintf(buf, size, "%d:%d", vm->pid, vm->fd);
	else
		snprintf(buf, size, "%d", vm->pid);
	return buf;
}

static void print_json(struct json *out, const struct kvmi_vm *vm)
{
	char buf[KVMI_UUID_TEXT];

	json_object(out, NULL);
	json_string(out, "vm", which(vm, buf, sizeof(buf)));
	json_number(out, "pid", vm->pid);
	json_number(out, "fd", vm->fd);
	json_string(out, "vmm", vm->vmm);
	if (*vm->name)
		json_string(out, "name", vm->name);
	else
		json_null(out, "name");
	if (vm->vcpus >= 0)
		json_number(out, "vcpus", vm->vcpus);
	else
		json_null(out, "vcpus");
	if (vm->memory)
		json_number(out, "memory", vm->memory);
	else
		json_null(out, "memory");
	json_bool(out, "served", *vm->served);
	if (*vm->served) {
		json_string(out, "uuid", kvmi_uuid_text(vm->uuid, buf));
		json_number(out, "user", vm->user);
		json_number(out, "start_time", vm->start_time);
	}
	json_end(out);
}

/* Of a VM that is served: what else it can be called, and whether it is in use */
static void print_served(const struct kvmi_vm *vm)
{
	char uuid[KVMI_UUID_TEXT];

	printf("  served: %s", kvmi_uuid_text(vm->uuid, uuid));
	if (vm->user)
		printf(", in use by process %d", vm->user);
}

static void print_text(const struct kvmi_vm *vm)
{
	char id[KVMI_UUID_TEXT], vcpus[16] = "?", memory[32] = "?";

	if (vm->vcpus >= 0)
		snprintf(vcpus, sizeof(vcpus), "%d", vm->vcpus);
	if (vm->memory)
		snprintf(memory, sizeof(memory), "%lluM", vm->memory >> 20);
	printf("%-12s %-22s %5s %9s  %s", vm->pid ? which(vm, id, sizeof(id)) : "-",
	       *vm->vmm ? vm->vmm : "?", vcpus, memory, *vm->name ? vm->name : "-");
	if (*vm->served)
		print_served(vm);
	putchar('\n');
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct kvmi_vms vms;
	size_t i;
	int r;

	(void)argc;
	(void)argv;

	r = kvmi_list_vms(&vms, NULL);
	if (r)
		return fail(tool, STATUS_FAILED, "cannot look for VMs: %s", strerror(-r));

	if (tool->json) {
		json_array(&tool->out, NULL);
		for (i = 0; i < vms.nr; i++)
			print_json(&tool->out, &vms.vm[i]);
		json_end(&tool->out);
	} else if (vms.nr) {
		printf("%-12s %-22s %5s %9s  %s\n", "PID", "VMM", "VCPUS", "MEMORY", "NAME");
		for (i = 0; i < vms.nr; i++)
			print_text(&vms.vm[i]);
	} else {
		note("there is no VM");
	}
	if (vms.unreadable)
		note("%u processes of others were not looked into: root sees all", vms.unreadable);
	kvmi_free_vms(&vms);

	return STATUS_OK;
}

const struct command command_list = {
	.name = "list",
	.operands = "",
	.options = "",
	.brief = "list the VMs on this host",
	.help =
	"One line a VM: the process that owns it, the program that it runs, how many\n"
	"vCPUs the VM has, memory and name if the command line of QEMU says so. A\n"
	"process with several VMs has a line for each: PID:FD. Needs no introspection\n"
	"in the kernel. 'served' are those that have come to a 'kvmi serve' of the same\n"
	"user; they can be called by their UUID, too.\n",
	.run = run,
};
