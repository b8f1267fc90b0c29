/** Line icons, drawn here: no font, no request, and they take the colour of the text. */

const PATHS = {
  plus: 'M12 5v14M5 12h14',
  search: 'M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l4.5 4.5',
  menu: 'M4 7h16M4 12h16M4 17h16',
  panel: 'M5 4h14a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2zM9 4v16',
  send: 'M12 19V5M5.5 11.5 12 5l6.5 6.5',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  more: 'M5 11.5h1v1H5zM11.5 11.5h1v1h-1zM18 11.5h1v1h-1z',
  down: 'M6 9.5l6 6 6-6',
  arrow: 'M12 5v14M5.5 12.5 12 19l6.5-6.5',
  close: 'M6 6l12 12M18 6 6 18',
  keyboard:
    'M4 6h16a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1zM7 10h.01M12 10h.01M17 10h.01M8 14h8',
  pencil: 'M4 20l1-4L16.5 4.5l3 3L8 19z',
  refresh: 'M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6',
  system: 'M4 5h16v11H4zM9 20h6M12 16v4',
  light:
    'M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4',
  dark: 'M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z',
  alert: 'M12 4 2.8 19.5h18.4zM12 10v4M12 17h.01',
  fork: 'M6 4v16M6 14h4a7 7 0 0 0 7-7V4.5M13.5 8 17 4.5 20.5 8',
  download: 'M12 4v11M6.5 10 12 15.5 17.5 10M5 20h14',
  trash: 'M5 7h14M9.5 7V4.5h5V7M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5',
  state: 'M4 5h16v14H4zM4 10h16M10 10v9',
  tasks: 'M4 6.5l1.5 1.5L8 5M4 13.5 5.5 15 8 12M11.5 7H20M11.5 14H20M11.5 19.5H20',
  tool: 'M14.5 6.5a4 4 0 0 0-5.3 5.3L4 17v3h3l5.2-5.2a4 4 0 0 0 5.3-5.3L15 12l-3-3z',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The product's mark: two voices. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path
        class="mark-one"
        d="M5 3h14a5 5 0 0 1 5 5v5a5 5 0 0 1-5 5h-7l-6 5v-5.2A5 5 0 0 1 1 13V7a4 4 0 0 1 4-4z"
      />
      <path
        class="mark-other"
        d="M26 11.2A5 5 0 0 1 31 16v5a5 5 0 0 1-4 4.9V30l-5-4h-7a5 5 0 0 1-4.6-3l2.3-2H19a7 7 0 0 0 7-7z"
      />
    </svg>
  );
}
