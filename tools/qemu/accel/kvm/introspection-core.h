/*
 * KVM introspection: the handshake with the tool, and what state the
 * connection is in
 *
 * This is all of introspection that knows nothing about the machine, KVM, or
 * character devices: it is told what happens, and says by callbacks what is to
 * be done. So it can be tested without any of them. Nothing in here blocks.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_INTROSPECTION_CORE_H
#define ACCEL_KVM_INTROSPECTION_CORE_H

#include "qapi/error.h"

/* The first message on a connection, QEMU to tool. */
typedef struct QEMU_PACKED IntrospectionHello {
    uint32_t struct_size;       /* bytes that are sent */
    uint8_t uuid[16];
    uint32_t padding;
    int64_t start_time;
    char name[64];
    uint64_t max_gpa;
    /* Only sent if there is a key, and it is not for SHA-1 alone. */
    uint32_t auth;
    uint32_t padding2;
    uint8_t challenge[32];
} IntrospectionHello;

#define INTROSPECTION_HELLO_BASIC_SIZE 104
#define INTROSPECTION_HELLO_SIZE 144

#define INTROSPECTION_CORE_SHA1 1
#define INTROSPECTION_CORE_HMAC_SHA256 2

/* The answer of the tool. It may be longer: what follows is skipped. */
typedef struct QEMU_PACKED IntrospectionReply {
    uint32_t struct_size;
    uint8_t cookie_hash[20];    /* SHA-1 of the key */
    uint8_t hmac[32];           /* HMAC-SHA-256 of the hello as it was sent */
} IntrospectionReply;

#define INTROSPECTION_REPLY_MIN 24
#define INTROSPECTION_REPLY_HMAC 56
#define INTROSPECTION_REPLY_MAX 65536

#define INTROSPECTION_TIMEOUT_MAX 86400 /* seconds */

typedef enum IntrospectionCoreState {
    /* No connection, or one that is about to be closed. */
    INTROSPECTION_IDLE,
    /* The hello was sent, the reply is not complete. */
    INTROSPECTION_HELLO,
    /* KVM has the socket. */
    INTROSPECTION_HOOKED,
    /* The tool was asked to go; its closing the socket is the answer. */
    INTROSPECTION_UNHOOKING,
} IntrospectionCoreState;

/*
 * None of these may call back into the core, except where it says so.
 */
typedef struct IntrospectionCoreOps {
    /* What the tool is told about the VM: uuid, start_time, name, max_gpa. */
    void (*describe)(void *opaque, IntrospectionHello *hello);
    /* All of it, or false. May call introspection_core_closed(). */
    bool (*send)(void *opaque, const void *data, size_t size);
    /* Give the socket to KVM, and the tool what it is allowed. */
    bool (*hook)(void *opaque, Error **errp);
    /* Ask the tool to go: false if it cannot be asked. */
    bool (*preunhook)(void *opaque);
    /* Take the socket from KVM. */
    void (*unhook)(void *opaque);
    /*
     * Close the connection, soon: not before the core has returned. It will
     * not say introspection_core_closed() for this connection any more.
     */
    void (*disconnect)(void *opaque);
    /* Connect, and again after each end, from now on; or do not. */
    void (*connect)(void *opaque, bool enable);
    /* introspection_core_timeout() in @ms milliseconds; never if negative. */
    void (*timer)(void *opaque, int64_t ms);
    /* There is a new state; @reason is why, or NULL if all is as it should. */
    void (*changed)(void *opaque, IntrospectionCoreState state,
                    const char *reason);
} IntrospectionCoreOps;

typedef struct IntrospectionCore {
    const IntrospectionCoreOps *ops;
    void *opaque;

    /* Set before the first connection. */
    uint32_t handshake_timeout; /* seconds */
    uint32_t unhook_timeout;    /* seconds; 0: do not ask the tool */
    uint32_t auth;              /* INTROSPECTION_CORE_*; 0: without a key */
    uint8_t *key;
    size_t key_size;

    IntrospectionCoreState state;
    bool allowed;
    IntrospectionHello hello;
    uint8_t reply[sizeof(IntrospectionReply)];
    uint32_t got;               /* bytes of the reply, skipped ones too */
} IntrospectionCore;

void introspection_core_init(IntrospectionCore *core,
                             const IntrospectionCoreOps *ops, void *opaque);
/* Without callbacks. The connection must be idle. */
void introspection_core_destroy(IntrospectionCore *core);

/* Whether new connections are wanted. One that KVM has stays. */
void introspection_core_allow(IntrospectionCore *core, bool allow);

/* The connection was made. */
void introspection_core_opened(IntrospectionCore *core);
/* It has ended. */
void introspection_core_closed(IntrospectionCore *core);
/* So many bytes may be read from it: what is behind them is KVM's. */
uint32_t introspection_core_can_receive(const IntrospectionCore *core);
void introspection_core_receive(IntrospectionCore *core, const uint8_t *data,
                                size_t size);
void introspection_core_timeout(IntrospectionCore *core);

/*
 * Have the tool undo what it does to the guest, and go. True if that takes
 * time: the state will be INTROSPECTION_IDLE when it is done, which is when
 * the tool closes the connection, or unhook_timeout later.
 */
bool introspection_core_release(IntrospectionCore *core);

/*
 * The ids of KVMI's commands and events from their names, as they are in
 * <linux/kvmi.h> but in lower case, or numbers. -1: there is none.
 */
int introspection_command_id(const char *name, Error **errp);
int introspection_event_id(const char *name, Error **errp);

/* End the connection now. */
void introspection_core_drop(IntrospectionCore *core, const char *reason);

#endif
