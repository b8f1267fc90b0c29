/** JSON Patches (RFC 6902): what a patch makes of a value, which is not changed itself. */

import type { PatchOperation } from './wire.gen';

/** The patched value; `undefined`, which no JSON is, where the patch does not apply. */
export function patched(value: unknown, patch: readonly PatchOperation[]): unknown {
  return patch.reduce((sum, operation) => (sum === undefined ? sum : apply(sum, operation)), value);
}

function apply(value: unknown, operation: PatchOperation): unknown {
  const path = tokens(operation.path);
  switch (operation.op) {
    case 'test':
      return isEqual(at(value, path), operation.value) ? value : undefined;
    case 'add':
      return add(value, path, operation.value);
    case 'replace':
      return path.length === 0 ? operation.value : change(value, path, replacing(operation.value));
    case 'remove':
      return remove(value, path);
    case 'copy':
      return add(value, path, at(value, tokens(operation.from)));
    case 'move': {
      const from = tokens(operation.from);
      return add(remove(value, from), path, at(value, from));
    }
    default:
      return undefined;
  }
}

function tokens(pointer: string): string[] {
  const parts = pointer.split('/').slice(1);
  return parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** Makes of an object or a list another one; `undefined` where that has no such place. */
type Change = (parent: Parts, token: string) => unknown;
type Parts = Record<string, unknown>;

/** A copy of `value` in which `edit` has changed what the last token of `path` is in. */
function change(value: unknown, [token, ...rest]: readonly string[], edit: Change): unknown {
  if (token === undefined || !isParts(value)) return undefined;
  if (rest.length === 0) return edit(value, token);
  const inner = has(value, token) ? change(value[token], rest, edit) : undefined;
  return inner === undefined ? undefined : replacing(inner)(value, token);
}

function add(value: unknown, path: readonly string[], part: unknown): unknown {
  if (path.length === 0 || part === undefined) return part;
  return change(value, path, (parent, token) => {
    if (!Array.isArray(parent)) return { ...parent, [token]: part };
    const index = token === '-' ? parent.length : Number(token);
    const isPlace = index === parent.length || has(parent, token);
    return isPlace ? parent.toSpliced(index, 0, part) : undefined;
  });
}

function remove(value: unknown, path: readonly string[]): unknown {
  return change(value, path, (parent, token) => {
    if (!has(parent, token)) return undefined;
    if (Array.isArray(parent)) return parent.toSpliced(Number(token), 1);
    const { [token]: _, ...others } = parent;
    return others;
  });
}

function replacing(part: unknown): Change {
  return (parent, token) => {
    if (!has(parent, token)) return undefined;
    return Array.isArray(parent) ? parent.with(Number(token), part) : { ...parent, [token]: part };
  };
}

function at(value: unknown, path: readonly string[]): unknown {
  return path.reduce((part, token) => (has(part, token) ? part[token] : undefined), value);
}

function has(value: unknown, token: string): value is Parts {
  return isParts(value) && Object.hasOwn(value, token) && token !== 'length';
}

function isParts(value: unknown): value is Parts {
  return typeof value === 'object' && value !== null;
}

function isEqual(one: unknown, other: unknown): boolean {
  if (!isParts(one) || !isParts(other)) return one === other;
  const names = Object.keys(one);
  return (
    Array.isArray(one) === Array.isArray(other) &&
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && isEqual(one[name], other[name]))
  );
}
