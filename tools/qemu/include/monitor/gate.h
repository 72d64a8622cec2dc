/*
 * Monitor commands that wait for something before they are executed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MONITOR_GATE_H
#define MONITOR_GATE_H

#include "qemu/coroutine.h"
#include "qobject/qdict.h"

typedef enum MonitorGateVerdict {
    /* The command is none of the gate's business. */
    MONITOR_GATE_NONE,
    /* It can be executed; the gate wants to know when that is over. */
    MONITOR_GATE_PASS,
    /* The same, but not before monitor_gate_open(). */
    MONITOR_GATE_WAIT,
} MonitorGateVerdict;

/*
 * There is one gate at most. All of this is for the main thread, with the BQL.
 */
typedef struct MonitorGate {
    /*
     * Called before each QMP command that is not executed out of band, and
     * each HMP command. @command is what the user has typed, so it may be an
     * alias; @args may be NULL, and need not be valid.
     */
    MonitorGateVerdict (*begin)(void *opaque, const char *command,
                                const QDict *args);
    /* The command was executed, or has failed. */
    void (*end)(void *opaque, const char *command);
    void *opaque;
} MonitorGate;

/* NULL: no gate any more. Commands that wait are executed. */
void monitor_gate_set(const MonitorGate *gate);

/* Commands that wait are executed or, with @reason, fail. */
void monitor_gate_open(const char *reason);

/* For the monitor: */

MonitorGateVerdict monitor_gate_begin(const char *command, const QDict *args);
void monitor_gate_end(MonitorGateVerdict verdict, const char *command);

/* What MONITOR_GATE_WAIT is for. False if the command is to fail. */
bool coroutine_fn monitor_gate_wait(Error **errp);

/* The command in an HMP command line. */
char *monitor_gate_hmp_command(const char *cmdline);

#endif
