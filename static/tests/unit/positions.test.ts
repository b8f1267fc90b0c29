import { describe, expect, it } from 'vitest';
import { appendDelta, countPoints, judge, NO_TEXT } from '../../src/client/positions';
import { seededRandom } from './helpers';

describe('judge', () => {
  const at = { epoch: 'e1', seq: 5 };

  it.each([
    ['e1', 6, 'apply'],
    ['e1', 5, 'ignore'],
    ['e1', 1, 'ignore'],
    ['e1', 7, 'gap'],
    ['e2', 6, 'gap'],
    // Another epoch is another log: even a low number of it tells nothing of ours.
    ['e2', 1, 'gap'],
    [undefined, 6, 'gap'],
  ])('%s %i: %s', (epoch, seq, verdict) => {
    expect(judge(at, epoch, seq)).toBe(verdict);
  });
});

describe('appendDelta', () => {
  const so = { text: 'a🙂', points: 2 };

  it('joins what follows', () => {
    expect(appendDelta(so, 2, '語b')).toEqual({ text: 'a🙂語b', points: 4 });
  });

  it('cuts what is there already, by code points', () => {
    expect(appendDelta(so, 1, '🙂c')).toEqual({ text: 'a🙂c', points: 3 });
    expect(appendDelta(so, 0, 'a🙂🙂')).toEqual({ text: 'a🙂🙂', points: 3 });
  });

  it('changes nothing when nothing is new', () => {
    expect(appendDelta(so, 0, 'a🙂')).toBe(so);
    expect(appendDelta(so, 0, 'a')).toBe(so);
    expect(appendDelta(so, 2, '')).toBe(so);
  });

  it('sees that something is missing', () => {
    expect(appendDelta(so, 3, 'x')).toBeUndefined();
    expect(appendDelta(NO_TEXT, 1, 'x')).toBeUndefined();
  });

  it('gives the whole text, however it was cut and repeated', () => {
    const random = seededRandom(7);
    const text = '1 語 🙂 é 👩‍👩‍👧 x'.repeat(20);
    const points = [...text];
    for (let round = 0; round < 200; round++) {
      let grown = NO_TEXT;
      while (grown.points < points.length) {
        const offset = Math.floor(random() * (grown.points + 1));
        const end = offset + 1 + Math.floor(random() * 30);
        grown = appendDelta(grown, offset, points.slice(offset, end).join('')) ?? grown;
      }
      expect(grown).toEqual({ text, points: points.length });
    }
  });
});

it('counts code points, not UTF-16 units', () => {
  expect(countPoints('a🙂語')).toBe(3);
});
