/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing KVM introspection: programs as text, see kvmi_fuzz_program.h.
 */
#ifndef KVMI_FUZZ_TEXT_H
#define KVMI_FUZZ_TEXT_H

#include "kvmi_fuzz_program.h"

/* A run of zeros that is worth an abbreviation. */
#define FUZZ_ZERO_RUN		4

/* Same meaning, same text. */
static inline void fuzz_trim(struct fuzz_step *step)
{
	step->len = min_t(u16, step->len, step->sent);
	while (step->len && !step->data[step->len - 1])
		step->len--;
}

static inline u32 fuzz_zeros(const struct fuzz_step *step, u32 at)
{
	u32 n = 0;

	while (at + n < step->len && !step->data[at + n])
		n++;
	return n;
}

static inline int fuzz_print_data(char *text, const struct fuzz_step *step)
{
	int n = sprintf(text, ":");
	u32 i, zeros;

	for (i = 0; i < step->len; i++) {
		zeros = fuzz_zeros(step, i);
		if (zeros < FUZZ_ZERO_RUN) {
			n += sprintf(text + n, "%02x", step->data[i]);
			continue;
		}
		n += sprintf(text + n, "(%u)", zeros);
		i += zeros - 1;
	}

	return n;
}

/* Returns the length of the text, FUZZ_STEP_TEXT at most. */
#define FUZZ_STEP_TEXT		(2 * FUZZ_DATA + 64)

static inline int fuzz_print_step(char *text, const struct fuzz_step *step)
{
	bool arg = step->arg, sent = arg || step->sent != step->size;
	bool size = sent || step->size;
	int n = sprintf(text, "%c%u", step->op, step->id);

	if (size)
		n += sprintf(text + n, ".%u", step->size);
	if (sent)
		n += sprintf(text + n, ".%u", step->sent);
	if (arg)
		n += sprintf(text + n, ".%d", step->arg);
	if (step->len)
		n += fuzz_print_data(text + n, step);

	return n;
}

static inline void fuzz_add_byte(struct fuzz_step *step, u8 byte)
{
	TEST_ASSERT(step->len < FUZZ_DATA, "A step has too many bytes");
	step->data[step->len++] = byte;
}

static inline const char *fuzz_parse_data(const char *text, struct fuzz_step *step)
{
	unsigned int n, byte;
	int used;

	for (;;) {
		if (sscanf(text, "(%u)%n", &n, &used) == 1) {
			while (n--)
				fuzz_add_byte(step, 0);
		} else if (sscanf(text, "%2x%n", &byte, &used) == 1 && used == 2 &&
			   *text != ' ') {
			fuzz_add_byte(step, byte);
		} else {
			return text;
		}
		text += used;
	}
}

static inline const char *fuzz_parse_step(const char *text, struct fuzz_step *step)
{
	long values[4] = {};
	char *end;
	int n = 0;

	fuzz_begin_step(step, *text++);
	do {
		values[n++] = strtol(text, &end, 10);
		text = end;
	} while (n < 4 && *text == '.' && text++);

	step->id = values[0];
	step->size = values[1];
	step->sent = n > 2 ? values[2] : values[1];
	step->arg = values[3];

	return *text == ':' ? fuzz_parse_data(text + 1, step) : text;
}

/* The steps are separated by spaces or, where there can be none, by commas. */
static inline void fuzz_parse(const char *text, struct fuzz_program *prog)
{
	prog->nr = 0;
	while (*text) {
		TEST_ASSERT(prog->nr < FUZZ_STEPS, "A program has too many steps");
		text = fuzz_parse_step(text, &prog->steps[prog->nr++]);
		TEST_ASSERT(!*text || *text == ' ' || *text == ',', "A program has a \"%.20s\"",
			    text);
		while (*text == ' ' || *text == ',')
			text++;
	}
	TEST_ASSERT(prog->nr, "A program without steps");
}

/*
 * kvmi_fuzz_corpus.h has lines: a program goes on in the next one after a space, and a step
 * after a '_'. Returns the number of lines.
 */
static inline int fuzz_parse_lines(const char * const *lines, struct fuzz_program *prog)
{
	char text[FUZZ_STEPS * (FUZZ_STEP_TEXT + 1)];
	int n, at = 0;

	for (n = 0; !n || text[at] == ' ' || text[at] == '_'; n++) {
		at += n && text[at] == ' ';
		strcpy(text + at, lines[n]);
		at += strlen(lines[n]) - 1;
	}
	fuzz_parse(text, prog);

	return n;
}

#define FUZZ_LINE	84

static inline void fuzz_print(const struct fuzz_program *prog)
{
	char text[FUZZ_STEP_TEXT];
	struct fuzz_step step;
	int i, n, at, column = 0;

	printf("# \t\"");
	for (i = 0; i < prog->nr; i++) {
		fuzz_copy_step(&step, &prog->steps[i]);
		fuzz_trim(&step);
		n = fuzz_print_step(text, &step);
		if (column && column + n >= FUZZ_LINE) {
			printf("\",\n# \t\"");
			column = 0;
		}
		for (at = 0; n - at > FUZZ_LINE; at += FUZZ_LINE)
			printf("%.*s_\",\n# \t\"", FUZZ_LINE, text + at);
		printf("%s%s", text + at, i < prog->nr - 1 ? " " : "");
		column += n - at + 1;
	}
	printf("\",\n");
}

#endif
