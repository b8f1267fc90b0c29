import { describe, expect, it } from 'vitest';
import { statusWord } from '../../src/ui/tasks/words';
import { task } from './helpers';

describe('a task in words', () => {
  it('says what a running one waits for', () => {
    const running = task({ status: 'running' });

    expect(statusWord(running)).toBe('Running');
    expect(statusWord({ ...running, pausing: true })).toBe('Pausing…');
    expect(statusWord({ ...running, pausing: true, waiting_approval: true })).toBe(
      'Needs approval',
    );
    expect(statusWord({ ...running, status: 'paused', waiting_approval: true })).toBe('Paused');
  });
});
