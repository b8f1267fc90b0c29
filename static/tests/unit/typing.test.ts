import { beforeEach, describe, expect, it } from 'vitest';
import { event, FakePage, SESSION } from './helpers';

let page: FakePage;

beforeEach(() => {
  page = new FakePage();
  page.openSession('x');
});

const writing = () => page.client.state.views.get(SESSION)?.typing.size;
const own = () => page.frontend.clientId;

function hear(typing: boolean, clientId: string | null = 'other'): void {
  const data = { author: 'local', client_id: clientId, typing, expires_in_ms: 6_000 };
  page.frontend.receive(event('typing', data));
}

describe('what is written elsewhere', () => {
  it('is heard of until it is over', () => {
    hear(true);
    expect(writing()).toBe(1);
    hear(false);
    expect(writing()).toBe(0);
  });

  it('is over by itself, unless it is said again', () => {
    hear(true);
    page.clock.pass(5_999);
    hear(true);
    page.clock.pass(5_999);
    expect(writing()).toBe(1);
    page.clock.pass(1);
    expect(writing()).toBe(0);
  });

  it('is told apart by clients, and by authors where those have no name', () => {
    hear(true);
    hear(true, null);
    expect(writing()).toBe(2);
    hear(false);
    expect(writing()).toBe(1);
  });

  it('is not what is written here', () => {
    hear(true, own());
    expect(writing()).toBe(0);
  });

  it('is not known without a connection', () => {
    hear(true);
    page.frontend.end(1006);
    expect(writing()).toBe(0);
  });
});

describe('what is written here', () => {
  const told = () => page.backend.sentOf('typing').map(({ data }) => data?.['typing']);
  const write = (typing: boolean) => page.client.tellTyping(SESSION, typing);

  it('is told at once, and again every three seconds at most', () => {
    write(true);
    write(true);
    page.clock.pass(2_999);
    write(true);
    expect(told()).toEqual([true]);
    page.clock.pass(1);
    write(true);
    expect(told()).toEqual([true, true]);
    expect(page.backend.sentOf('typing')[0]?.session_id).toBe(SESSION);
  });

  it('is over once, and begins no sooner for that', () => {
    write(false);
    write(true);
    write(false);
    write(false);
    write(true);
    expect(told()).toEqual([true, false]);
    page.clock.pass(3_000);
    write(true);
    expect(told()).toEqual([true, false, true]);
  });

  it('is not told later, when nobody could be told', () => {
    page.backend.end(1006);
    write(true);
    page.clock.pass(10_000);
    page.backend.establish();
    expect(told()).toEqual([]);
  });
});
