"use strict";
(() => {
  const root = document.documentElement;
  const element = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };

  // Theme: the system's until the reader chooses.
  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  dark.addEventListener("change", nameTheme);
  theme.hidden = false;
  nameTheme();

  // Sorting: within each body, so that reference rows stay apart; cells without a value go last.
  const compare = (left, right, sign) => {
    if (left === "" || right === "") return (left === "") - (right === "");
    const difference = Number(left) - Number(right);
    return sign * (Number.isNaN(difference) ? left.localeCompare(right, undefined, { numeric: true }) : difference);
  };
  for (const button of document.querySelectorAll("th button")) {
    const header = button.closest("th"), table = button.closest("table");
    button.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      const order = before === "none" ? header.dataset.first : before === "ascending" ? "descending" : "ascending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", order);
      const column = header.cellIndex, sign = order === "ascending" ? 1 : -1;
      for (const body of table.tBodies) {
        const rows = [...body.rows];
        rows.sort((a, b) => compare(a.cells[column].dataset.value, b.cells[column].dataset.value, sign));
        body.append(...rows);
      }
      document.getElementById("status").textContent = `Sorted by ${button.textContent.trim()}, ${order}.`;
    });
  }

  // What scrolls sideways can be reached by keyboard, what fits needs no stop.
  const sized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of document.querySelectorAll(".scroll, .canvas")) sized.observe(box);

  // Columns: one box per metric shows or hides it in its table.
  for (const box of document.querySelectorAll(".columns input")) {
    const show = () => {
      for (const cell of document.getElementById(box.dataset.table).querySelectorAll("[data-metric]")) {
        if (cell.dataset.metric === box.value) cell.hidden = !box.checked;
      }
    };
    box.addEventListener("change", show);
    show();
  }
  for (const node of document.querySelectorAll(".columns")) node.hidden = false;

  // Printing opens what is folded, and folds it again afterwards.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.columns)")];
    for (const node of opened) node.open = true;
  });
  addEventListener("afterprint", () => { for (const node of opened) node.open = false; });

  // Explained recommendations
  const stored = document.getElementById("explanations-data");
  if (!stored) return;
  const models = JSON.parse(stored.textContent);
  const chooser = document.getElementById("explained-model"), find = document.getElementById("explained-find");
  const choice = document.getElementById("explained-user"), view = document.getElementById("explained");
  const previous = document.getElementById("explained-previous"), next = document.getElementById("explained-next");
  const position = document.getElementById("explained-position");
  const fixed = (number) => number.toFixed(2);

  const words = (profile, shared) => {
    const list = element("ul", undefined, "words");
    for (const { word, score } of profile) {
      const item = element("li", word, shared.has(word) ? "shared" : "");
      item.append(element("span", fixed(score)));
      list.append(item);
    }
    return list;
  };

  const quote = ({ text, marks }, source) => {
    const node = element("blockquote");
    let at = 0;
    for (const { start, end, attention } of marks) {
      const mark = element("mark", text.slice(start, end));
      if (attention !== null) mark.title = `attention ${fixed(attention)}`;
      node.append(text.slice(at, start), mark);
      at = end;
    }
    node.append(text.slice(at), element("cite", source));
    return node;
  };

  const recommendation = ({ item, title, predicted, profile, keywords, reviews, neighbours, sentence, written }) => {
    const node = element("li"), head = element("div", undefined, "item-head"), name = element("div");
    name.append(element("h4", title || item));
    if (title) name.append(element("span", item, "soft small"));
    head.append(name);
    if (predicted !== null) {
      const rating = element("div", fixed(predicted), "rating");
      rating.append(element("small", "predicted rating"));
      head.append(rating);
    }
    node.append(head);
    if (sentence) node.append(element("p", sentence, "sentence"));
    if (written) node.append(element("p", written, "sentence"));
    if (neighbours) {
      const { neighbours: asked, rated, relevant, threshold, mean_rating: mean } = neighbours;
      const words = `${rated} of the ${asked} nearest users rated it, ${relevant} of them ${threshold} or more`;
      node.append(element("p", mean === null ? words : `${words}; their mean is ${fixed(mean)}`));
    }
    for (const { review, weight } of reviews) {
      if (review.quote) node.append(quote(review.quote, `${review.user}, about this item; weight ${fixed(weight)}`));
    }
    if (profile.length) {
      node.append(element("p", "Reviews of this item write about", "soft small"));
      node.append(words(profile, new Set(keywords.map((keyword) => keyword.word))));
    }
    if (!keywords.length) {
      if (profile.length) node.append(element("p", "No word stands in both profiles.", "soft small"));
      return node;
    }
    const list = element("dl", undefined, "shared-words");
    for (const keyword of keywords) {
      const group = element("div"), term = element("dt", keyword.word), quotes = element("dd");
      term.append(element("span", `user ${fixed(keyword.user_score)}, item ${fixed(keyword.item_score)}`));
      if (keyword.user_quote) quotes.append(quote(keyword.user_quote, "this user, in another review"));
      if (keyword.item_quote) quotes.append(quote(keyword.item_quote, "another user, about this item"));
      group.append(term, quotes);
      list.append(group);
    }
    node.append(list);
    return node;
  };

  let users = [];
  const show = () => {
    const at = users.findIndex((entry) => entry.user === choice.value);
    previous.disabled = at <= 0;
    next.disabled = at < 0 || at === users.length - 1;
    position.textContent = at < 0 ? "No user matches." : `User ${at + 1} of ${users.length}`;
    view.replaceChildren();
    if (at < 0) return;
    const { user, profile, recommendations } = users[at];
    const head = element("div", undefined, "who");
    head.append(element("h3", `User ${user}`));
    view.append(head);
    if (profile.length) {
      const shared = recommendations.flatMap((entry) => entry.keywords.map((keyword) => keyword.word));
      view.append(element("p", "Often writes about", "soft small"), words(profile, new Set(shared)));
    }
    if (!recommendations.length) view.append(element("p", "Has rated every item, so none is left to recommend."));
    const list = element("ol", undefined, "items");
    list.append(...recommendations.map(recommendation));
    view.append(list);
  };
  const fill = () => {
    const before = choice.value, wanted = find.value.trim().toLowerCase();
    const text = (entry) => [entry.user, ...entry.profile.map((word) => word.word),
      ...entry.recommendations.flatMap((row) => [row.item, row.title])].join("\n").toLowerCase();
    users = models[Number(chooser.value)].users.filter((entry) => text(entry).includes(wanted));
    choice.replaceChildren(...users.map((entry) => {
      const option = element("option", entry.user);
      option.value = entry.user;
      return option;
    }));
    if (users.some((entry) => entry.user === before)) choice.value = before;
    show();
  };
  const step = (by) => {
    const at = users.findIndex((entry) => entry.user === choice.value) + by;
    choice.value = users[at].user;
    show();
  };
  previous.addEventListener("click", () => step(-1));
  next.addEventListener("click", () => step(1));
  choice.addEventListener("change", show);
  chooser.addEventListener("change", fill);
  find.addEventListener("input", fill);
  document.getElementById("explained-browser").hidden = false;
  fill();
})();
