import { describe, expect, it } from 'vitest';
import { forkTitle, messageProblem, titleFrom } from '../../src/client/text';
import { utf8Length } from '../../src/client/wire';

describe('a title', () => {
  it('is the first line', () => {
    expect(titleFrom('\n  Plan my trip \nto Rome')).toBe('Plan my trip');
  });

  it('has 60 characters at most, and ends with a whole word', () => {
    const words = 'please write a long and thorough report about everything that there is';
    expect(titleFrom(words)).toBe('please write a long and thorough report about everything…');
    const exact = `${'x'.repeat(50)} ${'y'.repeat(9)}`;
    expect(titleFrom(exact)).toBe(exact);
    for (let length = 0; length < 200; length++) {
      expect([...titleFrom('ab '.repeat(length))].length).toBeLessThanOrEqual(60);
    }
  });

  it('is cut where it is when it has no spaces', () => {
    expect([...titleFrom('語'.repeat(100))]).toHaveLength(60);
    expect(titleFrom('🙂'.repeat(100))).toBe(`${'🙂'.repeat(59)}…`);
  });
});

it('names a fork after what it is of, and not too long', () => {
  expect(forkTitle('Trip plan')).toBe('Fork of Trip plan');
  expect([...forkTitle('🙂'.repeat(192))]).toHaveLength(200);
  const cut = [...forkTitle('🙂'.repeat(193))];
  expect([cut.length, cut.at(-1)]).toEqual([200, '…']);
});

describe('the limits of a message', () => {
  const limits = {
    max_frame_bytes: 2048,
    max_message_bytes: 4096,
    max_content_bytes: 1024,
    outbox_bytes: 1,
    max_topics: 1,
    max_commands_in_flight: 1,
  };
  const problem = (content: string) =>
    messageProblem({ type: 'chat_message', message_id: 'c1', data: { content } }, content, limits);

  it('are counted in bytes of UTF-8', () => {
    expect(problem('x'.repeat(1024))).toBeUndefined();
    expect(problem('x'.repeat(1025))).toContain('1.0 KiB');
    expect(problem('語'.repeat(342))).toContain('at most');
  });

  it('include what JSON adds', () => {
    expect(problem('\u0001'.repeat(400))).toContain('2.0 KiB at most');
  });

  it('are the server’s to check before it has told them', () => {
    const frame = { type: 'chat_message', message_id: 'c1' };
    expect(messageProblem(frame, 'x'.repeat(10_000_000), undefined)).toBeUndefined();
  });
});

it('knows how long a text is in UTF-8', () => {
  for (const text of ['', 'abc', 'é', '語', '🙂', 'a🙂b語']) {
    expect(utf8Length(text)).toBe(new TextEncoder().encode(text).length);
  }
});
