// Schemas: typebox builds them (they are JSON Schema, so CRDs and API documents come from the same source), and the check
// below reads the part of JSON Schema that we use and answers in words for people. In: a schema and an unknown value.
// Out: the value with defaults filled in and nulls of optional fields dropped, and the problems found.
//
// Traps: a field that a schema does not name is an error unless the object is `Open`; `null` for an optional field means
// absent, as the Kubernetes API reads it; typebox keeps optionality beside the schema, so only `required` is read here.
import { type Static, type TObject, type TProperties, type TSchema, type TUnsafe, Type } from 'typebox';
import { FORMATS } from './formats.ts';
import { nearest } from './nearest.ts';
import type { Problems } from './problems.ts';

export { type Static, type TSchema, Type };

/** The JSON Schema keywords that the check reads. */
export interface JsonSchema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
  readonly patternProperties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly JsonSchema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly format?: string;
  readonly default?: unknown;
  readonly description?: string;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
}

/** Text of one of the formats of formats.ts, such as `cidr`, `ip`, `mac`, `name`, `selector`. */
export function Text(format: string, description?: string) {
  return Type.String(description === undefined ? { format } : { format, description });
}

/** A whole number in a range, both ends included. */
export function Int(minimum: number, maximum: number, description?: string) {
  return Type.Integer(description === undefined ? { minimum, maximum } : { minimum, maximum, description });
}

/** One of a few words. */
export function OneOf<const T extends string>(words: readonly T[], description?: string): TUnsafe<T> {
  return Type.Unsafe<T>({ type: 'string', enum: [...words], ...(description === undefined ? {} : { description }) });
}

/** A number or a text, such as a port or an AS number, checked by `format`. */
export function IntOrText(format?: string, description?: string): TUnsafe<number | string> {
  return Type.Unsafe<number | string>({
    'x-kubernetes-int-or-string': true,
    ...(format === undefined ? {} : { format }),
    ...(description === undefined ? {} : { description }),
  });
}

/** A field that may be left out and then has this value: always present after parsing, so not optional in the type. */
export function Default<S extends TSchema>(schema: S, value: Static<S>): S {
  return Type.Optional({ ...schema, default: value });
}

/** An object of which only some fields are known; the others are kept unread. */
export function Open<P extends TProperties>(properties: P): TObject<P> {
  return Type.Object<P>(properties, { 'x-kubernetes-preserve-unknown-fields': true });
}

/** Text to text, as labels are. */
export function TextMap(description?: string): TUnsafe<Record<string, string>> {
  return Type.Unsafe<Record<string, string>>({
    type: 'object',
    additionalProperties: { type: 'string' },
    ...(description === undefined ? {} : { description }),
  });
}

/** The schema as what it is underneath. */
export function jsonSchema(schema: TSchema): JsonSchema {
  return schema;
}

/** Checks `value` and returns it cleaned: defaults in, nulls of optional fields out. Problems go to `problems`, with paths below `path`. */
export function check(schema: TSchema, value: unknown, path: string, problems: Problems): unknown {
  return checkValue(jsonSchema(schema), value, path, problems);
}

function checkValue(schema: JsonSchema, value: unknown, path: string, problems: Problems): unknown {
  if (schema.anyOf) return checkAnyOf(schema.anyOf, value, path, problems);
  if (schema['x-kubernetes-int-or-string']) {
    if (typeof value !== 'number' && typeof value !== 'string') {
      problems.add(path, `must be a number or a text, not ${describe(value)}`);
      return value;
    }
    return checkFormat(schema, value, path, problems);
  }
  if (schema.const !== undefined && value !== schema.const) {
    problems.add(path, `must be ${JSON.stringify(schema.const)}, not ${describe(value)}`);
    return value;
  }
  switch (schema.type) {
    case 'object':
      return checkObject(schema, value, path, problems);
    case 'array':
      return checkArray(schema, value, path, problems);
    case 'string':
      return checkString(schema, value, path, problems);
    case 'integer':
    case 'number':
      return checkNumber(schema, value, path, problems);
    case 'boolean':
      if (typeof value !== 'boolean')
        problems.add(path, `must be true or false, not ${describe(value)}`, booleanRemedy(value));
      return value;
    case undefined:
      return value;
    default:
      return value;
  }
}

function checkAnyOf(choices: readonly JsonSchema[], value: unknown, path: string, problems: Problems): unknown {
  let fewest: Problems | null = null;
  for (const choice of choices) {
    const attempt = problems.fresh();
    const cleaned = checkValue(choice, value, path, attempt);
    if (!attempt.any) return cleaned;
    if (!fewest || attempt.list.length < fewest.list.length) fewest = attempt;
  }
  for (const p of fewest?.list ?? []) problems.add(p.field, p.reason, p.remedy);
  return value;
}

function checkObject(schema: JsonSchema, value: unknown, path: string, problems: Problems): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    problems.add(path, `must be a set of fields, not ${describe(value)}`);
    return value;
  }
  const properties = schema.properties ?? {};
  const extra =
    typeof schema.additionalProperties === 'object'
      ? schema.additionalProperties
      : Object.values(schema.patternProperties ?? {})[0];
  const open = schema['x-kubernetes-preserve-unknown-fields'] === true || schema.additionalProperties === true;
  const required = schema.required ?? [];
  const out: Record<string, unknown> = {};
  /** Fields that a misspelt one stands for: not reported a second time as missing. */
  const meant = new Set<string>();
  for (const [key, inner] of Object.entries(value as Record<string, unknown>)) {
    const known = Object.hasOwn(properties, key) ? properties[key] : undefined;
    const at = join(path, key);
    if (known) {
      if ((inner === null || inner === undefined) && !required.includes(key)) continue;
      put(out, key, checkValue(known, inner, at, problems));
    } else if (extra) put(out, key, checkValue(extra, inner, at, problems));
    else if (open) put(out, key, inner);
    else {
      const near = unknownField(at, key, Object.keys(properties), problems);
      if (near) meant.add(near);
    }
  }
  for (const [key, inner] of Object.entries(properties)) {
    if (Object.hasOwn(out, key)) continue;
    if (inner.default !== undefined)
      put(out, key, checkValue(inner, structuredClone(inner.default), join(path, key), problems));
    else if (required.includes(key) && !meant.has(key) && (value as Record<string, unknown>)[key] === undefined) {
      problems.add(
        join(path, key),
        'is required',
        inner.description ? `it is ${uncapitalised(inner.description)}` : undefined,
      );
    }
  }
  return out;
}

function unknownField(path: string, key: string, known: readonly string[], problems: Problems): string | null {
  const near = nearest(key, known);
  let remedy: string;
  if (near) remedy = `did you mean ${near}?`;
  else if (known.length === 0) remedy = 'no field is allowed here';
  else if (known.length <= 12) remedy = `known here: ${known.join(', ')}`;
  else remedy = 'remove it';
  problems.add(path, 'is an unknown field', remedy);
  return near;
}

function checkArray(schema: JsonSchema, value: unknown, path: string, problems: Problems): unknown {
  if (!Array.isArray(value)) {
    problems.add(path, `must be a list, not ${describe(value)}`, 'write it as a list, one "- " a line');
    return value;
  }
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    problems.add(path, schema.minItems === 1 ? 'must not be empty' : `must have at least ${schema.minItems} entries`);
  }
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    problems.add(path, `has ${value.length} entries, at most ${schema.maxItems} are allowed`);
  }
  const items = schema.items;
  return items ? value.map((item, i) => checkValue(items, item, `${path}[${i}]`, problems)) : value;
}

function checkString(schema: JsonSchema, value: unknown, path: string, problems: Problems): unknown {
  if (typeof value !== 'string') {
    problems.add(path, `must be a text, not ${describe(value)}`, quoteRemedy(value));
    return value;
  }
  if (schema.enum) {
    if (schema.enum.includes(value)) return value;
    const words = schema.enum.map(String);
    const near = nearest(value, words);
    problems.add(path, `"${value}" is not one of ${words.join(', ')}`, near ? `did you mean ${near}?` : undefined);
    return value;
  }
  if (schema.minLength !== undefined && value.length < schema.minLength) {
    problems.add(
      path,
      schema.minLength === 1 ? 'must not be empty' : `must have at least ${schema.minLength} characters`,
    );
    return value;
  }
  if (schema.maxLength !== undefined && value.length > schema.maxLength) {
    problems.add(path, `is ${value.length} characters long, at most ${schema.maxLength} are allowed`);
    return value;
  }
  if (schema.pattern !== undefined && !new RegExp(schema.pattern, 'u').test(value)) {
    problems.add(path, `"${value}" does not have the right form`, schema.description);
    return value;
  }
  return checkFormat(schema, value, path, problems);
}

function checkNumber(schema: JsonSchema, value: unknown, path: string, problems: Problems): unknown {
  const whole = schema.type === 'integer';
  if (typeof value !== 'number' || !Number.isFinite(value) || (whole && !Number.isSafeInteger(value))) {
    const quoted = typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value));
    problems.add(
      path,
      `must be a ${whole ? 'whole ' : ''}number, not ${describe(value)}`,
      quoted ? 'leave out the quotes' : undefined,
    );
    return value;
  }
  const { minimum, maximum } = schema;
  if ((minimum !== undefined && value < minimum) || (maximum !== undefined && value > maximum)) {
    let range = `at least ${minimum}`;
    if (minimum !== undefined && maximum !== undefined) range = `${minimum} to ${maximum}`;
    else if (maximum !== undefined) range = `at most ${maximum}`;
    problems.add(path, `${value} is out of range`, `write ${range}`);
    return value;
  }
  return checkFormat(schema, value, path, problems);
}

function checkFormat(schema: JsonSchema, value: string | number, path: string, problems: Problems): unknown {
  const format = schema.format === undefined ? undefined : FORMATS[schema.format];
  const fault = format?.(value);
  if (fault) problems.add(path, fault.reason, fault.remedy);
  return value;
}

/** Sets also keys such as `__proto__`, which plain assignment would not. */
function put(target: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, enumerable: true, writable: true, configurable: true });
}

function join(path: string, key: string): string {
  const step = /^[A-Za-z_][\w-]*$/.test(key) ? key : JSON.stringify(key);
  if (step !== key) return `${path}[${step}]`;
  return path ? `${path}.${key}` : key;
}

function uncapitalised(text: string): string {
  const second = text[1] ?? '';
  const sentence = second === second.toLowerCase() ? text[0]!.toLowerCase() + text.slice(1) : text;
  return sentence.replace(/\.$/, '');
}

/** YAML 1.1 read `yes` and `on` as true; YAML 1.2, as here, reads a text. */
function booleanRemedy(value: unknown): string | undefined {
  const word = typeof value === 'string' ? value.toLowerCase() : '';
  if (['true', 'false'].includes(word)) return 'leave out the quotes';
  if (['yes', 'y', 'on'].includes(word)) return 'write true';
  return ['no', 'n', 'off'].includes(word) ? 'write false' : undefined;
}

/** The remedy for a bare number or boolean where a text belongs; undefined for anything else. */
export function quoteRemedy(value: unknown): string | undefined {
  return typeof value === 'number' || typeof value === 'boolean' ? `put it in quotes: "${value}"` : undefined;
}

/** A value in words, short. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a set of fields';
  if (typeof value === 'string')
    return `the text ${JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)}`;
  if (typeof value === 'number' || typeof value === 'bigint') return `the number ${value}`;
  return typeof value === 'boolean' ? `${value}` : `a ${typeof value}`;
}
