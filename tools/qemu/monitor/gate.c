/*
 * Monitor commands that wait for something before they are executed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "monitor/gate.h"
#include "qapi/error.h"
#include "qemu/ctype.h"
#include "qemu/queue.h"

typedef struct Waiter {
    Coroutine *co;
    const char *reason;
    QSIMPLEQ_ENTRY(Waiter) next;
} Waiter;

static const MonitorGate *gate;
static QSIMPLEQ_HEAD(, Waiter) waiters = QSIMPLEQ_HEAD_INITIALIZER(waiters);

void monitor_gate_set(const MonitorGate *new)
{
    gate = new;
    if (!gate) {
        monitor_gate_open(NULL);
    }
}

void monitor_gate_open(const char *reason)
{
    QSIMPLEQ_HEAD(, Waiter) woken = QSIMPLEQ_HEAD_INITIALIZER(woken);
    Waiter *w;

    /* Who is woken may wait again. */
    QSIMPLEQ_CONCAT(&woken, &waiters);
    while ((w = QSIMPLEQ_FIRST(&woken))) {
        QSIMPLEQ_REMOVE_HEAD(&woken, next);
        w->reason = reason;
        aio_co_wake(w->co);
    }
}

MonitorGateVerdict monitor_gate_begin(const char *command, const QDict *args)
{
    return gate ? gate->begin(gate->opaque, command, args)
                : MONITOR_GATE_NONE;
}

void monitor_gate_end(MonitorGateVerdict verdict, const char *command)
{
    /* The command may have been the one that has removed the gate. */
    if (verdict != MONITOR_GATE_NONE && gate) {
        gate->end(gate->opaque, command);
    }
}

bool coroutine_fn monitor_gate_wait(Error **errp)
{
    Waiter w = { .co = qemu_coroutine_self() };

    QSIMPLEQ_INSERT_TAIL(&waiters, &w, next);
    /*
     * monitor_gate_open() ends this. Meanwhile the main loop runs, so signals
     * and out-of-band commands have their effects; it is up to the gate to
     * open when QEMU is to quit, since that waits for the QMP dispatcher.
     */
    qemu_coroutine_yield();
    if (w.reason) {
        error_setg(errp, "%s", w.reason);
        return false;
    }
    return true;
}

char *monitor_gate_hmp_command(const char *cmdline)
{
    const char *end;

    while (qemu_isspace(*cmdline)) {
        cmdline++;
    }
    end = cmdline;
    while (*end && !qemu_isspace(*end)) {
        end++;
    }
    return g_strndup(cmdline, end - cmdline);
}
