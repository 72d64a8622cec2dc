/* SPDX-License-Identifier: GPL-2.0 */
/*
 * JSON output, one value a line.
 */
#ifndef KVMI_JSON_H
#define KVMI_JSON_H

#include <stdbool.h>
#include <stdio.h>

#include <linux/types.h>

#define JSON_DEPTH	8

/**
 * struct json - a writer
 * @file: where to
 * @depth: how many objects and arrays are open
 * @array: which of them are arrays
 * @filled: which of them have something in them
 */
struct json {
	FILE *file;
	unsigned int depth;
	bool array[JSON_DEPTH];
	bool filled[JSON_DEPTH];
};

/* @key is NULL at the top and in arrays. */
void json_object(struct json *json, const char *key);
void json_array(struct json *json, const char *key);
void json_end(struct json *json);
void json_string(struct json *json, const char *key, const char *value);
void json_text(struct json *json, const char *key, const char *value, size_t len);
void json_number(struct json *json, const char *key, long long value);
void json_double(struct json *json, const char *key, double value);
void json_hex(struct json *json, const char *key, __u64 value);
void json_bytes(struct json *json, const char *key, const __u8 *bytes, size_t len);
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

#endif
