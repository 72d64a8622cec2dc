/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: handlers of the commands, see struct kvmi_call.
 */
#ifndef __KVMI_COMMANDS_H
#define __KVMI_COMMANDS_H

#include <linux/kvmi_host.h>

int kvmi_get_version(struct kvmi_call *call);
int kvmi_vm_check_command(struct kvmi_call *call);
int kvmi_vm_check_event(struct kvmi_call *call);
int kvmi_vm_get_info(struct kvmi_call *call);
int kvmi_vm_control_events(struct kvmi_call *call);
int kvmi_vm_read_physical(struct kvmi_call *call);
int kvmi_vm_write_physical(struct kvmi_call *call);
int kvmi_vm_pause_vcpu(struct kvmi_call *call);
int kvmi_vm_control_cleanup(struct kvmi_call *call);
int kvmi_vm_get_max_gfn(struct kvmi_call *call);

int kvmi_vcpu_control_events(struct kvmi_call *call);
int kvmi_vcpu_set_registers(struct kvmi_call *call);

#endif
