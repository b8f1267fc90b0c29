/** When an event is the next one, and how deltas join: the rules by which nothing is missed or doubled. */

/** Where in a topic's log a reader stands. */
export interface Position {
  epoch: string;
  seq: number;
}

export type Verdict = 'apply' | 'ignore' | 'gap';

/** Whether a durable event follows on `at`. */
export function judge(at: Position, epoch: string | undefined, seq: number): Verdict {
  if (epoch !== at.epoch || seq > at.seq + 1) return 'gap';
  return seq <= at.seq ? 'ignore' : 'apply';
}

/** Text of which more is to come. */
export interface StreamedText {
  text: string;
  /** Its length in code points, which is what offsets count; `text.length` counts UTF-16 units. */
  points: number;
}

export const NO_TEXT: StreamedText = { text: '', points: 0 };

export function countPoints(text: string): number {
  let points = 0;
  for (const _ of text) points++;
  return points;
}

/** `so` with a delta that begins at `offset`; `undefined` when something between them is missing. */
export function appendDelta(
  so: StreamedText,
  offset: number,
  delta: string,
): StreamedText | undefined {
  if (offset > so.points) return undefined;
  const fresh = skipPoints(delta, so.points - offset);
  return fresh === '' ? so : { text: so.text + fresh, points: so.points + countPoints(fresh) };
}

function skipPoints(text: string, count: number): string {
  if (count === 0) return text;
  let units = 0;
  let skipped = 0;
  for (const point of text) {
    if (skipped++ === count) return text.slice(units);
    units += point.length;
  }
  return '';
}
