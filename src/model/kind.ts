// What a kind is: its names, its schema, its rules and how it is shown. One file a kind; registry.ts lists them all.
import type { Problems } from './problems.ts';
import type { Resource } from './resource.ts';
import type { Static, TSchema } from './schema.ts';

/** A column of `get`. The name, and the namespace where it matters, come first without being listed. */
export interface Column<R> {
  /** In capitals, as kubectl prints. */
  readonly title: string;
  /** Text for a person; '' where there is nothing to say. */
  readonly value: (resource: R) => string;
  /** Shown only with `-o wide`. */
  readonly wide?: true;
}

/** How a resource of another kind depends on one of this kind. */
export interface Need<R = Resource> {
  /** The other kind, by its `kindKey`. */
  readonly kind: string;
  /** What the other uses it for, a few words such as `12 addresses`; null when it does not use it. */
  readonly use: (resource: R, other: Resource) => string | null;
}

export interface KindOptions<S extends TSchema, T extends TSchema> {
  /** `projectcalico.org/v3`, `brindle.dev/v1` or another group's. */
  readonly apiVersion: string;
  readonly kind: string;
  /** Lower case, as typed on a command line. */
  readonly plural: string;
  readonly singular: string;
  readonly shortNames?: readonly string[];
  readonly namespaced: boolean;
  /** One sentence for `brindle get --help`, CRDs and documentation. */
  readonly description: string;
  readonly spec: S;
  /** Absent: any status is accepted and kept. */
  readonly status?: T;
  /** The spec may be left out altogether; it is then `{}` before defaults. */
  readonly specOptional?: true;
  /** A Kubernetes kind that has no spec: its fields beside the metadata, `status` apart, are read as the spec. */
  readonly flat?: true;
  /** Defaults that depend on other fields; constant ones belong in the schema. Runs on a spec that fits the schema. Must not change its argument. */
  readonly defaults?: (spec: Static<S>) => Static<S>;
  /** Rules across fields. Runs only when the schema is met. */
  readonly validate?: (resource: Resource<Static<S>, Static<T>>, problems: Problems) => void;
  /** What is legal but has no effect here, or is probably not meant. Shown as warnings, refuses nothing. */
  readonly warn?: (resource: Resource<Static<S>, Static<T>>, warnings: Problems) => void;
  /** Rules against what is stored already, other than itself, such as overlapping pools. */
  readonly validateAgainst?: (
    resource: Resource<Static<S>, Static<T>>,
    others: readonly Resource<Static<S>, Static<T>>[],
    problems: Problems,
  ) => void;
  /** Rules for a change, such as fields that cannot change. */
  readonly validateUpdate?: (
    resource: Resource<Static<S>, Static<T>>,
    previous: Resource<Static<S>, Static<T>>,
    problems: Problems,
  ) => void;
  /** A resource is not deleted while others need it. */
  readonly neededBy?: readonly Need<Resource<Static<S>, Static<T>>>[];
  readonly columns?: readonly Column<Resource<Static<S>, Static<T>>>[];
}

/** A kind whose spec and status types are not known to the holder. */
export interface Kind
  extends Omit<
    KindOptions<TSchema, TSchema>,
    'defaults' | 'validate' | 'warn' | 'validateAgainst' | 'validateUpdate' | 'neededBy' | 'columns'
  > {
  readonly shortNames: readonly string[];
  readonly columns: readonly Column<Resource>[];
  readonly defaults?: (spec: unknown) => unknown;
  readonly validate?: (resource: Resource, problems: Problems) => void;
  readonly warn?: (resource: Resource, warnings: Problems) => void;
  readonly validateAgainst?: (resource: Resource, others: readonly Resource[], problems: Problems) => void;
  readonly validateUpdate?: (resource: Resource, previous: Resource, problems: Problems) => void;
  readonly neededBy?: readonly Need[];
}

/**
 * Declares a kind. The types of spec and status are inferred from their schemas inside the options and forgotten in the
 * result: whoever holds a resource of the kind uses the exported `Resource<XSpec>` type of its file.
 */
export function defineKind<S extends TSchema, T extends TSchema = TSchema>(options: KindOptions<S, T>): Kind {
  // The registry calls the functions only with resources that met the schemas, so the narrower types hold.
  return { ...options, shortNames: options.shortNames ?? [], columns: options.columns ?? [] } as unknown as Kind;
}
