// SPDX-License-Identifier: GPL-2.0
/*
 * What the story's guest does when it is told to: "guest hypercall COUNT" asks
 * the introspection tool for an event, "guest breakpoint COUNT" executes INT3,
 * "guest getpid" asks the kernel who it is. Prints what came back, for the story
 * to check.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KVM_HC_XEN_HVM_OP	34
#define GUEST_REQUEST_VM_EVENT	24

static volatile sig_atomic_t traps;

static void on_trap(int signal)
{
	(void)signal;
	traps++;
}

/* The token is for whoever looks at the registers. */
static long hypercall(unsigned long token)
{
	long ret;

	asm volatile("vmmcall"
		     : "=a"(ret)
		     : "a"((long)KVM_HC_XEN_HVM_OP), "D"((long)GUEST_REQUEST_VM_EVENT),
		       "S"(0L), "d"(token)
		     : "memory");
	return ret;
}

int main(int argc, char **argv)
{
	int i, count = argc > 2 ? atoi(argv[2]) : 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "hypercall")) {
		for (i = 1; i <= count; i++)
			printf("hypercall %#x returned %ld\n", 0xc0de0000 + i,
			       hypercall(0xc0de0000 + i));
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "breakpoint")) {
		signal(SIGTRAP, on_trap);
		for (i = 1; i <= count; i++) {
			asm volatile("int3" ::: "memory");
			printf("breakpoint %d: SIGTRAP %s\n", i, traps == i ? "came" : "lost");
		}
		return 0;
	}

	if (argc > 1 && !strcmp(argv[1], "getpid")) {
		/* The link is made by other code than the system call. */
		char self[16] = "";

		if (readlink("/proc/self", self, sizeof(self) - 1) < 0)
			perror("/proc/self");
		printf("getpid returned %ld in process %s\n", syscall(SYS_getpid), self);
		return 0;
	}

	fprintf(stderr, "usage: guest hypercall|breakpoint|getpid [COUNT]\n");
	return 2;
}
