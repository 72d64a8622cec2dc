/*
 * KVM introspection in a QEMU without KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-commands-introspection.h"

IntrospectionInfoList *qmp_query_introspection(Error **errp)
{
    return NULL;
}
