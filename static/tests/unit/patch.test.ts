import { describe, expect, it } from 'vitest';
import { patched } from '../../src/client/patch';
import type { PatchOperation } from '../../src/client/wire.gen';

const one = (value: unknown, ...patch: PatchOperation[]) => patched(value, patch);

describe('a patch', () => {
  it.each<[string, unknown, PatchOperation[], unknown]>([
    ['adds a member', { a: 1 }, [{ op: 'add', path: '/b', value: 2 }], { a: 1, b: 2 }],
    ['adds over a member', { a: 1 }, [{ op: 'add', path: '/a', value: 2 }], { a: 2 }],
    ['adds to a list', [1, 3], [{ op: 'add', path: '/1', value: 2 }], [1, 2, 3]],
    ['adds at the end', [1], [{ op: 'add', path: '/-', value: 2 }], [1, 2]],
    ['adds at the end by number', [1], [{ op: 'add', path: '/1', value: 2 }], [1, 2]],
    [
      'adds deep inside',
      { a: [{}] },
      [{ op: 'add', path: '/a/0/b', value: [] }],
      { a: [{ b: [] }] },
    ],
    ['removes a member', { a: 1, b: 2 }, [{ op: 'remove', path: '/a' }], { b: 2 }],
    ['removes from a list', [1, 2, 3], [{ op: 'remove', path: '/1' }], [1, 3]],
    ['replaces a member', { a: 1 }, [{ op: 'replace', path: '/a', value: null }], { a: null }],
    ['replaces in a list', [1, 2], [{ op: 'replace', path: '/0', value: 3 }], [3, 2]],
    ['replaces everything', { a: 1 }, [{ op: 'replace', path: '', value: [] }], []],
    ['moves', { a: { b: 1 } }, [{ op: 'move', from: '/a/b', path: '/c' }], { a: {}, c: 1 }],
    ['moves within a list', [1, 2, 3], [{ op: 'move', from: '/0', path: '/2' }], [2, 3, 1]],
    ['copies', { a: [1] }, [{ op: 'copy', from: '/a', path: '/b' }], { a: [1], b: [1] }],
    ['reads escapes', { 'a/b': 1, '~': 2 }, [{ op: 'remove', path: '/a~1b' }], { '~': 2 }],
    ['reads escapes in order', { '~1': 1 }, [{ op: 'remove', path: '/~01' }], {}],
    ['knows empty names', { '': 1 }, [{ op: 'replace', path: '/', value: 2 }], { '': 2 }],
    [
      'tests by value',
      { a: { b: [1], c: 2 } },
      [{ op: 'test', path: '/a', value: { c: 2, b: [1] } }],
      { a: { b: [1], c: 2 } },
    ],
    [
      'goes on from one operation to the next',
      {},
      [
        { op: 'add', path: '/a', value: {} },
        { op: 'add', path: '/a/b', value: 1 },
        { op: 'remove', path: '/a' },
      ],
      {},
    ],
  ])('%s', (_, value, patch, expected) => {
    const before = structuredClone(value);
    expect(patched(value, patch)).toEqual(expected);
    expect(value).toEqual(before);
  });

  it.each<[string, unknown, PatchOperation]>([
    ['no such member', {}, { op: 'remove', path: '/a' }],
    ['no such member to replace', {}, { op: 'replace', path: '/a', value: 1 }],
    ['no such parent', {}, { op: 'add', path: '/a/b', value: 1 }],
    ['nothing to copy', {}, { op: 'copy', from: '/a', path: '/b' }],
    ['nothing to move', {}, { op: 'move', from: '/a', path: '/b' }],
    ['into itself', { a: {} }, { op: 'move', from: '/a', path: '/a/b' }],
    ['beyond the end', [1], { op: 'add', path: '/2', value: 1 }],
    ['not a place of a list', [1], { op: 'remove', path: '/length' }],
    ['after the end', [1], { op: 'replace', path: '/-', value: 1 }],
    ['inside a text', { a: 'text' }, { op: 'add', path: '/a/b', value: 1 }],
    ['not everything', { a: 1 }, { op: 'remove', path: '' }],
    ['inherited', {}, { op: 'remove', path: '/toString' }],
    ['another value', { a: 1 }, { op: 'test', path: '/a', value: 2 }],
    ['another kind', { a: [] }, { op: 'test', path: '/a', value: {} }],
    ['more than that', { a: { b: 1, c: 1 } }, { op: 'test', path: '/a', value: { b: 1 } }],
  ])('does not apply: %s', (_, value, operation) => {
    expect(one(value, operation)).toBeUndefined();
  });

  it('makes no prototype of a name', () => {
    const value = one({}, { op: 'add', path: '/__proto__', value: { a: 1 } }) as object;
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(Object.keys(value)).toEqual(['__proto__']);
  });

  it('keeps what it does not touch', () => {
    const value = { a: { x: 1 }, b: { y: 2 } };
    const next = one(value, { op: 'replace', path: '/b/y', value: 3 }) as typeof value;
    expect(next.a).toBe(value.a);
  });
});
