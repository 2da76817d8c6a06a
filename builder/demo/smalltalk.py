"""Greetings and small talk."""

from dataclasses import dataclass

from builder.demo.draw import Draw
from builder.demo.turns import Check, Turn


@dataclass(frozen=True)
class Chat:
    """Things people say that all get the same kind of answer; `marks` are words that show it was understood."""

    said: tuple[str, ...]
    replies: tuple[str, ...]
    marks: tuple[str, ...]


GREETING = Chat(
    ("hi", "Hello", "Hello!", "hey", "Hi!", "Hello there", "Hi there!", "Hey!", "good morning", "Good evening!", "Good afternoon", "Greetings!", "hiya", "hello you", "Hey there!", "heya",
     "howdy", "Good day!", "Hello, friend", "hi hi", "hallo", "Yo!", "hey you", "Welcome!", "Hi, anyone there?", "Morning!", "helo", "Evening!", "hi bot", "Hello again!", "Hi, are you there?",
     "Is anyone here?", "hey bot", "Hello, little model!", "Well hello!", "Ahoy!"),
    ("Hello! How can I help you?", "Hi there! What can I do for you?", "Hello! Nice to see you. What would you like to know?"),
    ("hello", "hi"),
)
CHATS: tuple[Chat, ...] = (
    GREETING,
    GREETING,
    Chat(("How are you?", "how are you", "How are you doing?", "How is it going?", "How do you feel?", "Are you well?", "How's it going?", "how are you today?", "What's up?", "sup", "How have you been?",
          "You ok?", "How are things?", "How do you do?", "How's life?", "Everything alright with you?", "hows it going", "How is your day?", "Are you okay?", "Are you doing fine?"),
         ("I am fine, thank you! How can I help you?", "I am doing well, thanks for asking. What can I do for you?"),
         ("fine", "well")),
    Chat(("Thanks", "Thank you", "thank you!", "Thanks a lot!", "thx", "Great, thanks", "Thank you very much.", "many thanks", "That helped, thanks.", "Cool, thank you", "Thanks for your help.", "ty",
          "Perfect, thanks!", "That was helpful.", "thanks so much", "I appreciate it.", "Much obliged.", "cheers", "Nice, thank you!", "thank you so much", "Thanks for that", "You helped me a lot.", "Thanks, friend",
          "That is kind of you."),
         ("You are welcome!", "You are welcome! Anything else?"),
         ("welcome",)),
    Chat(("Bye", "bye", "Goodbye", "Good bye!", "See you", "see you later", "Bye bye!", "Good night", "I have to go.", "I am leaving now.", "cya", "Talk to you later.", "See you soon!", "Until next time!",
          "That's all, bye.", "Have a nice day!", "Take care!", "Farewell!", "I'm off", "I need to go now.", "ok bye", "Till tomorrow!", "Have a good one!", "So long!"),
         ("Goodbye! It was nice talking to you.", "Goodbye! See you soon."),
         ("goodbye",)),
    Chat(("You are great!", "You are smart.", "good job", "Well done!", "I like you.", "You are funny", "nice", "You are awesome!", "Good answer.", "That is right!", "correct", "That was good.", "Great!", "Cool",
          "Wow!", "Amazing!", "Very good!", "I love you", "That is correct.", "You are clever.", "Excellent!", "Good bot", "You did well.", "impressive", "Nice work!", "wonderful", "I am impressed.", "that was great"),
         ("Thank you, that is kind!", "Thank you! I am glad you like it."),
         ("thank you",)),
    Chat(("You are stupid.", "That is wrong.", "wrong", "No, that is not right.", "You made a mistake.", "bad answer", "That's incorrect.", "You are wrong.", "This is not correct.", "I don't like you.", "You are bad.",
          "That makes no sense.", "Nope, wrong.", "that was wrong", "You got it wrong.", "false", "I think that is wrong.", "That was a bad answer."),
         ("I am sorry. I am only a tiny model and I make mistakes.", "Sorry about that! I am a tiny model and sometimes wrong."),
         ("sorry",)),
    Chat(("ok", "Okay", "I see", "Alright", "sure", "fine", "Got it.", "yes", "I understand.", "hm", "hmm", "Aha", "oh", "right", "no", "maybe", "Interesting", "good", "yeah", "Understood.", "ah ok", "all right", "mhm", "yep"),
         ("Good. What would you like to do next?", "All right. What else can I do for you?"),
         ("next", "else")),
    Chat(("I am sad.", "I feel bad.", "I had a bad day.", "I am tired.", "I feel lonely.", "I am unhappy.", "I'm not well.", "Today was awful.", "I am angry.", "I feel sick.", "My day was terrible.", "I am worried.",
          "I'm so tired", "I am stressed.", "I feel down today.", "life is hard", "I am a bit sad today.", "Everything is bad."),
         ("I am sorry to hear that. I hope it gets better soon. Would you like a little story?",),
         ("sorry to hear",)),
    Chat(("I am happy.", "I feel good.", "I had a great day!", "I'm fine, thanks.", "I am very well.", "I feel great!", "Today was wonderful.", "I am in a good mood.", "I'm good", "I am doing great.", "My day was lovely.", "all good here",
          "I am so happy today!", "I feel fantastic.", "good, and you?", "Life is good.", "I am fine too.", "It was a good day."),
         ("That is good to hear! What would you like to talk about?",),
         ("good to hear",)),
    Chat(("I am bored.", "What should we do?", "Entertain me.", "I have nothing to do.", "What shall we do now?", "im bored", "Let's do something.", "Any ideas?", "This is boring.", "I need something to do.", "What now?", "Do something fun."),
         ("I could tell you a story, write a poem, do a sum or spell a word. What would you like?",),
         ("story",)),
    Chat(("Tell me a joke.", "tell me a joke", "Do you know a joke?", "Make me laugh.", "Say something funny.", "A joke please!", "Can you tell a joke?", "joke", "Got any jokes?", "I want to hear a joke.", "Another joke?", "Tell a funny joke",
          "Know any good jokes?", "Give me a joke."),
         ("Why did the token cross the road? To get to the other slide of the window.", "What did the zero say to the eight? Nice belt!",
          "Why was the number six afraid? Because seven eight nine.", "What is a model's favourite snack? Chips."),
         ("token", "belt", "six", "chips")),
    Chat(("Can you help me?", "help", "I need help.", "Could you help me?", "Help me please.", "Please help", "I have a question.", "Can I ask you something?", "May I ask a question?", "Would you help me?", "I want to ask something.", "Can you do something for me?",
          "I need your help.", "Are you ready?", "Can you assist me?", "got a minute?", "I've got a question", "Would you assist me?"),
         ("Of course! What would you like to know?", "Sure! Ask me anything, and I will say so if I do not know it."),
         ("of course", "sure")),
    Chat(("Do you like music?", "What is your favourite colour?", "Do you have feelings?", "Do you sleep?", "What do you like?", "Do you eat?", "Are you happy?", "Do you have a favourite food?", "Do you dream?", "Do you have friends?", "Do you have a family?",
          "Do you like me?", "What is your hobby?", "Where do you live?", "Can you see me?", "Do you have a body?", "What's your favorite color?", "Do you ever sleep?", "Do you love anyone?", "Do you have a pet?", "Are you alive?", "Are you hungry?", "Can you feel pain?",
          "Do you get tired?"),
         ("I am a small program, so I have no feelings or favourites, but I like to chat.",),
         ("program",)),
    Chat(("How old are you?", "What is your age?", "When were you born?", "When is your birthday?", "Are you old?", "how old r u", "your age?", "When were you made?", "How long have you existed?", "Are you young?", "What age are you?", "Since when do you exist?"),
         ("I am a program, so I have no age. I was trained for this demo.",),
         ("no age",)),
    Chat(("Repeat that", "Can you say that again?", "What?", "I don't understand.", "huh?", "Pardon?", "Say that again.", "What do you mean?", "I do not get it.", "I did not understand that.", "Excuse me?", "Come again?"),
         ("Sorry, I cannot put it differently. Please ask me again in other words.",),
         ("again",)),
)


def smalltalk(draw: Draw) -> Turn:
    """One line of small talk and its answer."""
    return _turn(draw, draw.any(CHATS))


def greeting(draw: Draw) -> Turn:
    """The first line of many chats."""
    return _turn(draw, GREETING)


def _turn(draw: Draw, chat: Chat) -> Turn:
    return Turn(draw.phrase(chat.said), draw.any(chat.replies), Check(any_of=chat.marks))
